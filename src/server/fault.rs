//! What went wrong goes in, as an error of the engine or in the server's own words; what the native API tells of it
//! comes out: kind, place, message, and what helps as fields of an order.

use crate::error::{Error, Kind, Remedy};
use crate::job::note::{Field, Objection, Phrase};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What an error means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The order cannot be carried out as written.
    Usage,
    /// A file is not what it should be.
    BadFile,
    /// More memory than there is.
    TooBig,
    /// An allocation failed.
    OutOfMemory,
    /// The device stopped answering.
    DeviceLost,
    /// No kernel is left.
    Refused,
    /// A NaN, an infinity, an empty picture.
    NonFinite,
    /// Somebody asked to stop.
    Cancelled,
    /// Input and output, the system.
    Other,
    /// No JSON, no such query.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// From a foreign page, or to a foreign name.
    Forbidden,
    /// Nothing is there.
    NotFound,
    /// Not in this state.
    Conflict,
    /// More bytes than are taken.
    TooLarge,
    /// A body of another type.
    UnsupportedType,
    /// Too many wait.
    QueueFull,
    /// The server ends.
    ShuttingDown,
    /// Our fault.
    Internal,
}

impl FaultKind {
    /// The status that it is answered with where nothing else is said.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Usage | Self::BadFile | Self::TooBig | Self::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict | Self::Cancelled => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::QueueFull | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::OutOfMemory | Self::DeviceLost | Self::NonFinite | Self::Other | Self::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// Something that can be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Help {
    /// Fields of the order with values that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<Map<String, Value>>,
    /// In English.
    pub(crate) message: String,
}

/// An error as data; the `Error` of `openapi.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// What it means.
    pub(crate) kind: FaultKind,
    /// The same in English.
    pub(crate) message: String,
    /// A path of parts: `order`, `width`.
    pub(crate) place: Vec<String>,
    /// What helps, the best first.
    pub(crate) remedy: Vec<Help>,
    /// Bytes or jobs needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) need: Option<u64>,
    /// Bytes or jobs there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) have: Option<u64>,
    /// What may stand there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed: Vec<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}

impl Fault {
    /// An error in the server's own words.
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            place: Vec::new(),
            remedy: Vec::new(),
            need: None,
            have: None,
            allowed: Vec::new(),
            retry_after: None,
        }
    }

    /// A field of an order is wrong.
    pub(crate) fn of_order(field: &str, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Usage, message).at(["order", field])
    }

    /// Says where.
    #[must_use]
    pub(crate) fn at<const N: usize>(self, place: [&str; N]) -> Self {
        Self { place: place.map(str::to_owned).into(), ..self }
    }

    /// Adds values that will do.
    #[must_use]
    pub(crate) fn or_set(mut self, message: impl Into<String>, set: Value) -> Self {
        let set = if let Value::Object(set) = set { Some(set) } else { None };
        self.remedy.push(Help { set, message: message.into() });
        self
    }

    /// An order that cannot be carried out.
    pub(crate) fn of_objection(objection: Objection) -> Self {
        let field = match &objection {
            Objection::Wrong { phrase, .. } => phrase.fields().next(),
            Objection::Error(_) => None,
        };
        let mut fault = Self::from(objection.told(&field_name));
        if let Some(field) = field.filter(|_| fault.place.is_empty()) {
            fault.place = vec!["order".into(), field_name(field)];
        }
        fault
    }
}

/// How an order calls a field.
pub(crate) fn field_name(field: Field) -> String {
    match field {
        Field::Style => "styles".into(),
        field => field.plain().replace(' ', "_"),
    }
}

/// A job's sentence, with an order's fields.
pub(crate) fn told(phrase: &Phrase) -> String {
    phrase.told(&field_name)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (need, have) = match error.kind() {
            Kind::TooBig { need, have } => (Some(*need), Some(*have)),
            _ => (None, None),
        };
        let kind = match error.kind() {
            Kind::Usage => FaultKind::Usage,
            Kind::BadFile => FaultKind::BadFile,
            Kind::TooBig { .. } => FaultKind::TooBig,
            Kind::OutOfMemory => FaultKind::OutOfMemory,
            Kind::DeviceLost => FaultKind::DeviceLost,
            Kind::Refused => FaultKind::Refused,
            Kind::NonFinite { .. } => FaultKind::NonFinite,
            Kind::Cancelled => FaultKind::Cancelled,
            Kind::Other => FaultKind::Other,
        };
        let place = match error.option() {
            Some("style") => vec!["order".into(), "styles".into()],
            Some(option) => vec!["order".into(), option.into()],
            None => error.place().to_vec(),
        };
        let remedy = error.remedies().iter().map(|remedy| help(*remedy)).collect();
        Self { place, remedy, need, have, ..Self::new(kind, error.to_string()) }
    }
}

fn help(remedy: Remedy) -> Help {
    let set = match remedy {
        Remedy::Size { width, height } => json!({"width": width, "height": height}),
        Remedy::F32 => json!({"precision": "f32"}),
        Remedy::F32Weights => json!({"weight_type": "f32"}),
        _ => Value::Null,
    };
    let set = if let Value::Object(set) = set { Some(set) } else { None };
    Help { set, message: remedy.in_words() }
}

/// An answer that is a no: a [`Fault`] and the status. As a response it has the native API's shape; the other APIs word
/// it as theirs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// What was wrong.
    pub(crate) fault: Box<Fault>,
}

impl Refusal {
    /// In the server's own words, with the kind's own status.
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault::new(kind, message).into()
    }

    /// The same with another status.
    #[must_use]
    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Nothing is there.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(FaultKind::NotFound, format!("there is no such {what}"))
    }

    /// Something of ours failed; what, is for the log.
    pub(crate) fn internal() -> Self {
        Self::new(FaultKind::Internal, "the server failed at this; its log says why")
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { status: fault.kind.status(), fault: Box::new(fault) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        Fault::of_objection(objection).into()
    }
}

impl Refusal {
    /// The header that says when to come again, where that is known.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        self.fault.retry_after.map(HeaderValue::from)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry = self.retry_after();
        let mut response = (self.status, Json(json!({"error": *self.fault}))).into_response();
        if let Some(retry) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, retry);
        }
        response
    }
}
