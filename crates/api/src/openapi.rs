//! The description of this crate's endpoints (OpenAPI 3.1), from the handlers and the types that they take and give. Who may ask
//! what is added where that is decided, in front of all of them.

mod answers;

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use crate::{Problem, analyses, conversions, exports, live, proof, quarantine, report, sql};
pub(crate) use answers::{
    AbTestShown, CompareShown, ForecastShown, FunnelShown, HeatMapShown, PercentilesShown, ReportAnswer, SampleShown,
    SeriesShown, SqlAnswer, TopShown,
};

#[derive(OpenApi)]
#[openapi(
    paths(
        report::query,
        report::query_by_url,
        report::catalog,
        sql::sql,
        analyses::ab_test,
        analyses::compare,
        analyses::forecast,
        analyses::funnel,
        analyses::heat_map,
        analyses::percentiles::percentiles,
        analyses::sample::sample,
        analyses::series::series,
        analyses::top,
        exports::create,
        exports::list,
        exports::show,
        exports::remove,
        exports::file,
        proof::life,
        conversions::list,
        quarantine::list,
        proof::verify,
        live::socket,
        live::events,
    ),
    components(schemas(Problem))
)]
pub struct ApiDocument;

type Responses = BTreeMap<String, RefOr<Response>>;

/// What any question may be answered with instead of an answer.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> Responses {
        [
            (400, "It cannot be answered as asked: `field`, `what` and `cure` say why. `malformed`, `question`, `statement`."),
            (408, "The body did not arrive within 10 s: `slow`."),
            (500, "It failed on our side; the log says why: `failed`."),
            (503, "Too much at once: `busy`. Try again after `Retry-After`."),
            (504, "It took longer than 120 s: `too-long`. Ask for a shorter time or fewer groups."),
        ]
        .map(|(status, says)| (status.to_string(), problem(status, says).into()))
        .into()
    }
}

/// What a viewer of live figures may be answered with.
pub(crate) struct Viewers;

impl IntoResponses for Viewers {
    fn responses() -> Responses {
        [("503".to_owned(), problem(503, "1,000 look at the live figures already: `busy`.").into())].into()
    }
}

/// A problem, with `Retry-After` where the status has it.
pub fn problem(status: u16, says: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new().description(says).content("application/problem+json", content);
    match status {
        429 | 503 => response.header(
            "Retry-After",
            HeaderBuilder::new()
                .schema(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)))
                .description(Some("Seconds to wait."))
                .build(),
        ),
        _ => response,
    }
    .build()
}
