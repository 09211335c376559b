//! The description of the ingest endpoints (OpenAPI 3.1). An event's fields are those that the parser knows, each with what the
//! checks let through.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Content, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use crate::error::LineFault;
use crate::parse::{Field, ID_BYTES_MAX, MICROS_MAX, SEGMENTS_MAX};
use crate::{http, postback, tag};

#[derive(OpenApi)]
#[openapi(
    paths(http::one, http::batch, http::click, http::pixel, postback::postback, tag::newest, tag::version),
    modifiers(&OneIdEach),
)]
pub struct CaptureDocument;

/// A handler of two methods is two operations.
struct OneIdEach;

impl Modify for OneIdEach {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let post = document.paths.paths.get_mut("/v1/postback").and_then(|item| item.post.as_mut());
        if let Some(post) = post {
            post.operation_id = Some("postbackInBody".to_owned());
        }
    }
}

/// An event as JSON or a form.
pub(crate) struct Event;

impl PartialSchema for Event {
    fn schema() -> RefOr<Schema> {
        let about = "One event. All but a conversion that gives `click_id` need `campaign_id` and `ad_id`. Null is absent. \
                     Unknown fields are kept in `props`.";
        let fields = Field::ALL.iter().fold(ObjectBuilder::new().schema_type(Type::Object), |event, field| {
            event.property(field.as_str(), of_field(*field, Way::Json))
        });
        fields.required(Field::Kind.as_str()).description(Some(about)).into()
    }
}

impl ToSchema for Event {}

/// An event's fields in an address. Where a kind is the default, none has to be given.
pub(crate) struct InAddress;

impl IntoParams for InAddress {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = |field: &Field| {
            let schema = of_field(*field, Way::Pairs);
            let about = if let Schema::Object(object) = &schema { object.description.clone() } else { None };
            ParameterBuilder::new()
                .name(field.as_str())
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(about)
                .schema(Some(schema))
                .build()
        };
        Field::ALL.iter().map(parameter).collect()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Json,
    Pairs,
}

fn of_field(field: Field, way: Way) -> Schema {
    let id = |about| text(about).max_length(Some(ID_BYTES_MAX));
    let object = match field {
        Field::EventId => {
            text("Keep it the same when sending again; absent: one is made and told.").format(known(KnownFormat::Uuid))
        }
        Field::Kind => {
            let kinds = tally_model::Kind::ALL.map(tally_model::Kind::as_str);
            return text("What happened.").enum_values(Some(kinds)).into();
        }
        Field::OccurredAt => text("RFC 3339 with a zone, 2000-01-01 to 24 h ahead; absent: time of receipt.")
            .format(known(KnownFormat::DateTime)),
        Field::CampaignId => id("Up to 64 bytes."),
        Field::AdId => id("Up to 64 bytes."),
        Field::PlacementId => id("Where it was shown."),
        Field::PublisherId => id("Whose page it was."),
        Field::Variant => id("Of an A/B test."),
        Field::UserId => text("Hashed on receipt, never stored."),
        Field::Ip => text("Hashed on receipt. Believed from servers of ours only."),
        Field::UserAgent => text("Absent: the request's. Believed from servers of ours only."),
        Field::Referrer => text("Absent: the request's `Referer`."),
        Field::X => number("Where the click was: pixels, or 0 to 1 across the ad."),
        Field::Y => number("The same from the top."),
        Field::Country => text("ISO 3166-1.").pattern(Some("^[A-Za-z]{2}$")),
        Field::Subdivision => text("ISO 3166-2, such as `US-CA`.").pattern(Some("^[A-Za-z]{2}-[A-Za-z0-9]{1,3}$")),
        Field::AgeGroup => id("Audience."),
        Field::Gender => id("Audience."),
        Field::Segments if way == Way::Pairs => text("Audience: names, separated by commas."),
        Field::Segments => {
            let names = ArrayBuilder::new().items(id("A name.").build()).max_items(Some(SEGMENTS_MAX));
            let types = SchemaType::from_iter([Type::Array, Type::Null]);
            return names.schema_type(types).description(Some("Audience.")).into();
        }
        Field::CostMicros => micros("What the advertiser pays for it, millionths of `currency`."),
        Field::RevenueMicros => micros("What it brought the advertiser, millionths of `currency`."),
        Field::Currency => text("ISO 4217.").pattern(Some("^[A-Za-z]{3}$")),
        Field::ClickId => id("The click that led to a conversion."),
        Field::Gdpr => any("Whether the GDPR applies (IAB TCF): 1, 0, true or false."),
        Field::GdprConsent => text("TC string (IAB TCF), up to 4,096 bytes."),
        Field::Gpp => text("String of the Global Privacy Platform, up to 4,096 bytes."),
        Field::GppSid => any("Sections of it that apply: `2,6`, or a list of numbers."),
        Field::UsPrivacy => text("U.S. Privacy string (IAB CCPA), such as `1YNN`."),
        Field::Gpc => any("Global Privacy Control; absent: the request's `Sec-GPC`."),
        Field::Props if way == Way::Pairs => text("One JSON object: anything else."),
        Field::Props => return object("Anything else, up to 8,192 bytes.").into(),
    };
    object.into()
}

fn known(format: KnownFormat) -> Option<SchemaFormat> {
    Some(SchemaFormat::KnownFormat(format))
}

fn typed(types: impl IntoIterator<Item = Type>, about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).description(Some(about))
}

fn text(about: &str) -> ObjectBuilder {
    typed([Type::String, Type::Null], about)
}

fn number(about: &str) -> ObjectBuilder {
    typed([Type::Number, Type::Null], about)
}

fn object(about: &str) -> ObjectBuilder {
    typed([Type::Object, Type::Null], about)
}

fn micros(about: &str) -> ObjectBuilder {
    typed([Type::Integer, Type::Null], about).minimum(Some(-(MICROS_MAX as f64))).maximum(Some(MICROS_MAX as f64))
}

/// What is taken in several forms.
fn any(about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(about))
}

/// What went wrong with an event or a batch (RFC 9457).
#[derive(ToSchema)]
#[allow(dead_code, reason = "described; `error.rs` writes it")]
pub(crate) struct EventProblem {
    #[schema(pattern = "^urn:tally:problem:[a-z-]+$", example = "urn:tally:problem:event")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and how to mend it.
    detail: String,
    /// The field that is wrong; null where the text is no event at all.
    field: Option<String>,
    #[schema(value_type = String, required = false)]
    what: Option<String>,
    #[schema(value_type = String, required = false)]
    cure: Option<String>,
    /// Of a batch.
    #[schema(value_type = u64, required = false)]
    accepted: Option<u64>,
    #[schema(value_type = u64, required = false)]
    rejected: Option<u64>,
    #[schema(value_type = Vec<LineFault>, required = false)]
    errors: Option<Vec<LineFault>>,
    #[schema(value_type = u64, required = false)]
    errors_omitted: Option<u64>,
}

type Responses = BTreeMap<String, RefOr<Response>>;

/// What is answered to who sends an address only.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> Responses {
        problems(&[
            (400, "A field is wrong or missing: `event`."),
            (405, "Another method, see `Allow`: `method`."),
            (429, "Over a rate limit: `rate-limited`. Again after `Retry-After`."),
            (500, "A bug; again with the same `event_id`: `internal`."),
            (503, "It could not be stored: `shed`, `journal`. Again after `Retry-After`, with the same `event_id`."),
        ])
    }
}

/// What is answered besides to who sends a body.
pub(crate) struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> Responses {
        problems(&[
            (400, "A field is wrong or missing, or the body cannot be read: `event`, `body`, `batch`."),
            (408, "The body came too slowly: `slow`."),
            (413, "Over a limit of size: `too-large`."),
            (415, "An unknown `Content-Encoding`, or a multipart form: `media`."),
        ])
    }
}

fn problems(of: &[(u16, &str)]) -> Responses {
    let problem = |says: &str| {
        let content = Content::new(Some(Ref::from_schema_name("EventProblem")));
        ResponseBuilder::new().description(says).content("application/problem+json", content).build()
    };
    of.iter().map(|(status, says)| (status.to_string(), problem(says).into())).collect()
}
