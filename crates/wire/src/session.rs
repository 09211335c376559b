//! One client's session: takes statements in both of the protocol's ways, and gives rows that stop when they are told to.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlannedStatement;
use datafusion::sql::sqlparser::ast::{Declare, Statement};
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::hooks::cursor::CursorStatementHook;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::hooks::{HookClient, QueryHook};
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, Type};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::{Parse, ParseComplete};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use datafusion_postgres::{DfSessionService, Parser};
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use futures::{Sink, SinkExt};
use tally_lake::{Sql, SqlError, SqlLimits, SqlSession};
use tokio::sync::watch;

use crate::cancel::Cancellable;
use crate::metrics::WireMetrics;
use crate::questions::understood;
use crate::server::{Denied, MayAsk};
use crate::statement::Kind;
use crate::{format, identity, information_schema, parameters};

/// The name of the database that clients connect to.
const CATALOG: &str = "tally";
/// How long a statement may run, unless its session sets less.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// Where the library keeps what `SET statement_timeout` said.
const TIMEOUT_MS: &str = "statement_timeout_ms";
/// Prepared statements and cursors of one session. Drivers keep a hundred.
const NAMES_MAX: usize = 1_000;

/// A statement as the library keeps it: its text, its syntax and the plan that it had when it was prepared.
pub(crate) type Prepared = (String, Option<(Statement, LogicalPlan)>);

pub(crate) struct Session {
    sql: Arc<SqlSession>,
    context: SessionContext,
    syntax: PostgresCompatibilityParser,
    /// For the types of parameters and columns.
    library: Arc<Parser>,
    /// Set once the client has come in. The protocol's loop goes on after an error, also after one of the login.
    admitted: OnceLock<Admitted>,
    names: Mutex<HashSet<String>>,
    metrics: WireMetrics,
}

/// A client that has come in.
pub(crate) struct Admitted {
    pub cancellable: Cancellable,
    /// None where anyone may.
    pub may_ask: Option<Box<MayAsk>>,
}

impl Admitted {
    /// Whether a statement of its is answered now.
    fn check(&self) -> PgWireResult<()> {
        let Some(may_ask) = &self.may_ask else { return Ok(()) };
        may_ask().map_err(|denied| match denied {
            Denied::ForGood(why) => error("FATAL", "28000", why),
            Denied::Now(why) => error("ERROR", "53400", why),
        })
    }
}

impl Session {
    pub fn new(sql: &Sql, metrics: WireMetrics) -> Result<Self, SqlError> {
        let sql = sql.session()?;
        let context = sql.context().clone();
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider)
            .map_err(|error| *error)
            .and_then(|()| information_schema::register(&context, CATALOG))
            .map_err(|error| SqlError::Failed(format!("cannot set up the catalog: {error}")))?;
        identity::register(&context);
        format::register(&context);
        let library = DfSessionService::new_with_hooks(Arc::new(context.clone()), Vec::new()).query_parser();
        Ok(Self {
            sql: Arc::new(sql),
            context,
            syntax: PostgresCompatibilityParser::new(),
            library,
            admitted: OnceLock::new(),
            names: Mutex::default(),
            metrics,
        })
    }

    pub fn admit(&self, admitted: Admitted) {
        // A second login in one connection changes nothing: the protocol has none.
        let _ = self.admitted.set(admitted);
    }

    pub fn is_admitted(&self) -> bool {
        self.admitted.get().is_some()
    }

    fn admitted(&self) -> PgWireResult<&Admitted> {
        self.admitted.get().ok_or_else(|| error("FATAL", "28000", "log in first"))
    }

    fn parse(&self, text: &str) -> PgWireResult<Vec<Statement>> {
        self.admitted()?;
        SqlSession::check_length(text).map_err(refusal)?;
        let statements = self.syntax.parse(text).map_err(|cause| error("ERROR", "42601", cause.to_string()))?;
        Ok(statements.into_iter().map(|statement| understood(statement, &self.syntax)).collect())
    }

    async fn plan(&self, statement: &Statement) -> PgWireResult<LogicalPlan> {
        let statement = PlannedStatement::Statement(Box::new(statement.clone()));
        self.sql.plan(statement).await.map_err(refusal)
    }

    /// Answers a statement that has no parameters left.
    async fn answer<C>(&self, client: &mut C, statement: &Statement) -> PgWireResult<Response>
    where
        C: HookClient,
    {
        match Kind::of(statement) {
            Kind::Read => {
                check_transaction(client)?;
                let plan = self.plan(statement).await?;
                self.read(client, plan, &Format::UnifiedText)
            }
            Kind::Session => {
                if let Statement::ShowVariable { variable } = statement
                    && let Some(answer) = identity::shown(variable)
                {
                    return answer;
                }
                for hook in [&SetShowHook as &dyn QueryHook, &TransactionStatementHook] {
                    if let Some(answer) = hook.handle_simple_query(statement, &self.context, client).await {
                        return answer;
                    }
                }
                Ok(done("SET"))
            }
            Kind::Ignored => Ok(done(match statement {
                Statement::Savepoint { .. } => "SAVEPOINT",
                Statement::ReleaseSavepoint { .. } => "RELEASE",
                _ => "SET",
            })),
            Kind::Cursor => {
                check_transaction(client)?;
                if let Statement::Declare { stmts } = statement {
                    return self.declare(client, stmts).await;
                }
                let answer = CursorStatementHook.handle_simple_query(statement, &self.context, client).await;
                answer.unwrap_or_else(|| Ok(done("CLOSE CURSOR")))
            }
            Kind::Forget => {
                self.forget(client, statement);
                Ok(done(match statement {
                    Statement::Deallocate { .. } => "DEALLOCATE",
                    Statement::Discard { .. } => "DISCARD ALL",
                    _ => "RESET",
                }))
            }
            Kind::Refused => Err(refused(statement)),
        }
    }

    /// The rows of a plan, which begins to run when the first is asked for.
    fn read<C>(&self, client: &C, plan: LogicalPlan, format: &Format) -> PgWireResult<Response>
    where
        C: ClientInfo + ?Sized,
    {
        let admitted = self.admitted()?;
        admitted.check()?;
        let cancel = admitted.cancellable.watch();
        self.metrics.statements.inc();
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let fields = Arc::new(arrow_schema_to_pg_fields(plan.schema().as_arrow(), format, Some(options))?);
        let limits = SqlLimits { time: time_limit(client), rows: None };
        let session = self.sql.clone();
        let batches = stream::once(async move { session.start(&plan, limits).await }).try_flatten().boxed();
        let names = fields.clone();
        let rows = until_cancelled(batches, cancel, self.metrics.clone()).flat_map(move |batch| match batch {
            Ok(batch) => stream::iter(encode_recordbatch(names.clone(), batch)).left_stream(),
            Err(cause) => stream::once(async { Err(refusal(cause)) }).right_stream(),
        });
        Ok(Response::Query(QueryResponse::new(fields, rows)))
    }

    async fn declare<C>(&self, client: &mut C, declared: &[Declare]) -> PgWireResult<Response>
    where
        C: HookClient,
    {
        for cursor in declared {
            let (Some(name), Some(query)) = (cursor.names.first(), &cursor.for_query) else {
                return Err(error(
                    "ERROR",
                    "42601",
                    "DECLARE needs a name and a query: DECLARE c CURSOR FOR SELECT ..",
                ));
            };
            self.remember(&name.value)?;
            let query = Statement::Query(query.clone());
            let plan = self.plan(&query).await?;
            let Response::Query(rows) = self.read(client, plan.clone(), &Format::UnifiedText)? else { continue };
            // With its plan, so that the client can be told of what it will fetch.
            let prepared = (query.to_string(), Some((query, plan)));
            let statement = StoredStatement::new(name.value.clone(), prepared, Vec::new());
            let portal = Portal::new_cursor(name.value.clone(), Arc::new(statement));
            portal.start(rows).await;
            client.portal_store().put_portal(Arc::new(portal));
        }
        Ok(done("DECLARE CURSOR"))
    }

    fn remember(&self, name: &str) -> PgWireResult<()> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX && !names.contains(name) {
            let what =
                format!("the session has {NAMES_MAX} prepared statements and cursors; forget some (DEALLOCATE ALL)");
            return Err(error("ERROR", "54000", what));
        }
        names.insert(name.to_owned());
        Ok(())
    }

    fn forget<C>(&self, client: &mut C, statement: &Statement)
    where
        C: HookClient,
    {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> = match statement {
            Statement::Deallocate { name, .. } if !name.value.eq_ignore_ascii_case("all") => vec![name.value.clone()],
            Statement::Reset(_) => Vec::new(),
            _ => names.iter().cloned().collect(),
        };
        for name in gone {
            names.remove(&name);
            client.portal_store().rm_statement(&name);
        }
    }
}

fn time_limit<C: ClientInfo + ?Sized>(client: &C) -> Duration {
    let asked = client.metadata().get(TIMEOUT_MS).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    asked.map_or(TIME_LIMIT, |asked| asked.min(TIME_LIMIT))
}

/// Ends with an error as soon as the client asks for that, and lets go of what runs.
fn until_cancelled(
    batches: BoxStream<'static, Result<RecordBatch, SqlError>>,
    cancel: watch::Receiver<()>,
    metrics: WireMetrics,
) -> impl Stream<Item = Result<RecordBatch, SqlError>> + Send {
    stream::unfold(Some((batches, cancel, metrics)), |state| async move {
        let (mut batches, mut cancel, metrics) = state?;
        tokio::select! {
            biased;
            Ok(()) = cancel.changed() => {
                metrics.cancelled.inc();
                Some((Err(SqlError::Cancelled), None))
            }
            next = batches.next() => next.map(|batch| (batch, Some((batches, cancel, metrics)))),
        }
    })
}

fn check_transaction<C: ClientInfo + ?Sized>(client: &C) -> PgWireResult<()> {
    match client.transaction_status() {
        TransactionStatus::Error => {
            let what = "current transaction is aborted, commands ignored until end of transaction block";
            Err(error("ERROR", "25P02", what))
        }
        TransactionStatus::Idle | TransactionStatus::Transaction => Ok(()),
    }
}

fn done(tag: &str) -> Response {
    Response::Execution(Tag::new(tag))
}

fn refused(statement: &Statement) -> PgWireError {
    let text = statement.to_string();
    let what = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    refusal(SqlError::Refused { what })
}

fn refusal(cause: SqlError) -> PgWireError {
    let code = match &cause {
        SqlError::Statement(_) => "42000",
        SqlError::Refused { .. } => "25006",
        SqlError::Busy => "53300",
        SqlError::TooLong { .. } | SqlError::Cancelled => "57014",
        SqlError::TooLarge { .. } => "53200",
        SqlError::TooManyRows { .. } => "54000",
        SqlError::Failed(_) => "XX000",
    };
    let message = match &cause {
        // As Postgres says it: clients know these words.
        SqlError::Cancelled => "canceling statement due to user request".to_owned(),
        SqlError::TooLong { .. } => format!("canceling statement due to statement timeout: {cause}"),
        other => other.to_string(),
    };
    error("ERROR", code, message)
}

fn error(severity: &str, code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(severity.to_owned(), code.to_owned(), message.into())))
}

#[async_trait]
impl SimpleQueryHandler for Session {
    async fn do_query<C>(&self, client: &mut C, text: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = self.parse(text)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut answers = Vec::with_capacity(statements.len());
        for statement in &statements {
            answers.push(self.answer(client, statement).await?);
        }
        Ok(answers)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Session {
    type Statement = Prepared;
    type QueryParser = Preparing;

    fn query_parser(&self) -> Arc<Preparing> {
        // Parsing goes through `on_parse`; the protocol asks here for types alone.
        Arc::new(Preparing(self.library.clone()))
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.clone().unwrap_or_default();
        let types = message.type_oids.iter().map(|oid| Type::from_oid(*oid)).collect();
        let mut statements = self.parse(&message.query)?;
        if statements.len() > 1 {
            return Err(error("ERROR", "42601", "cannot insert multiple commands into a prepared statement"));
        }
        if !name.is_empty() {
            self.remember(&name)?;
        }
        match statements.pop() {
            Some(statement) => {
                let plan = self.prepare(client, &statement).await?;
                let prepared = (message.query, Some((statement, plan)));
                client.portal_store().put_statement(Arc::new(StoredStatement::new(
                    stored_name(&name),
                    prepared,
                    types,
                )));
            }
            None => client.portal_store().put_empty_statement(&stored_name(&name)),
        }
        client.send(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let Some((statement, prepared)) = &portal.statement.statement.1 else { return Ok(Response::EmptyQuery) };
        let kind = Kind::of(statement);
        if kind == Kind::Cursor && matches!(portal.result_column_format.format_for(0), FieldFormat::Binary) {
            return Err(error("ERROR", "0A000", "cursors give rows as text; fetch them without the binary format"));
        }
        if kind != Kind::Read {
            return self.answer(client, statement).await;
        }
        check_transaction(client)?;
        let values = self.values(portal, prepared)?;
        // Planned again: what was committed since it was prepared is in.
        let plan = self.plan(statement).await?;
        let plan = plan.replace_params_with_values(&values);
        let plan = plan.map_err(|cause| error("ERROR", "42000", cause.strip_backtrace()))?;
        self.read(client, plan, &portal.result_column_format)
    }
}

impl Session {
    /// The plan from which a client is told what a statement takes and gives.
    async fn prepare<C>(&self, client: &C, statement: &Statement) -> PgWireResult<LogicalPlan>
    where
        C: ClientInfo + ClientPortalStore + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
    {
        match Kind::of(statement) {
            Kind::Read => self.plan(statement).await,
            Kind::Refused => Err(refused(statement)),
            Kind::Session => match SetShowHook.handle_extended_parse_query(statement, &self.context, client).await {
                Some(plan) => plan,
                None => Ok(nothing()),
            },
            Kind::Cursor => Ok(fetched_plan(client, statement).unwrap_or_else(nothing)),
            Kind::Ignored | Kind::Forget => Ok(nothing()),
        }
    }

    fn values(&self, portal: &Portal<Prepared>, plan: &LogicalPlan) -> PgWireResult<ParamValues> {
        let inferred = parameters::types(plan).map_err(|cause| error("ERROR", "42P18", cause.strip_backtrace()))?;
        let wire = self.library.get_parameter_types(&portal.statement.statement)?;
        let inferred: Vec<Option<&DataType>> = inferred.iter().map(Option::as_ref).collect();
        let wire: Vec<Option<&Type>> = wire.iter().map(Some).collect();
        deserialize_parameters_with_server_types(portal, &inferred, &wire)
    }
}

/// The plan of the cursor that a statement fetches from.
fn fetched_plan<C>(client: &C, statement: &Statement) -> Option<LogicalPlan>
where
    C: ClientPortalStore,
    C::PortalStore: PortalStore<Statement = Prepared>,
{
    let Statement::Fetch { name, .. } = statement else { return None };
    let cursor = client.portal_store().get_portal(&name.value)?;
    let (_, plan) = cursor.value()?.statement.statement.1.as_ref()?;
    Some(plan.clone())
}

/// What the protocol calls a statement without a name.
fn stored_name(name: &str) -> String {
    match name {
        "" => datafusion_postgres::pgwire::api::DEFAULT_NAME.to_owned(),
        name => name.to_owned(),
    }
}

/// The plan of what is answered without one.
fn nothing() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) })
}

/// Tells the protocol the types of parameters and columns.
pub(crate) struct Preparing(Arc<Parser>);

#[async_trait]
impl QueryParser for Preparing {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _: &C, _: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        Err(error("ERROR", "XX000", "statements are prepared by their session"))
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        self.0.get_parameter_types(statement)
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.0.get_result_schema(statement, format)
    }
}
