//! The body of a request goes in; its fields come out typed, with everything that is wrong with them in FastAPI's form,
//! and the request with its defaults as the answer repeats it.
//!
//! As lenient as the webui's own reader: fields that nobody knows are passed over, null is the default, `42.0` and
//! `"42"` are integers, 0 and 1 are truth values.

use super::No;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// A request's fields while they are read.
pub(super) struct Fields {
    given: Map<String, Value>,
    echo: Map<String, Value>,
    wrong: Vec<Value>,
}

/// One entry of a 422's `detail`.
pub(super) fn fault(place: &[Value], message: &str, kind: &str) -> Value {
    let place: Vec<Value> = std::iter::once(json!("body")).chain(place.iter().cloned()).collect();
    json!({"loc": place, "msg": message, "type": kind})
}

impl Fields {
    /// The fields of a body.
    ///
    /// # Errors
    /// 422: it is no JSON, or no object.
    pub(super) fn read(body: &[u8]) -> Result<Self, No> {
        let refused = |entry: Value| No::new(StatusCode::UNPROCESSABLE_ENTITY, json!([entry]));
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(refused(fault(&[], "Field required", "missing")));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(given)) => Ok(Self { given, echo: Map::new(), wrong: Vec::new() }),
            Ok(_) => Err(refused(fault(&[], "Input should be an object with the fields of the request", "dict_type"))),
            Err(e) => {
                let place = [json!(e.line()), json!(e.column())];
                Err(refused(fault(&place, &format!("JSON decode error: {e}"), "json_invalid")))
            }
        }
    }

    /// An object within a request, such as its settings.
    pub(super) fn of(given: Map<String, Value>) -> Self {
        Self { given, echo: Map::new(), wrong: Vec::new() }
    }

    /// Whether the request says anything about this field.
    pub(super) fn says(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|value| !value.is_null())
    }

    /// A field as it is; the answer repeats it, or its default.
    pub(super) fn value(&mut self, name: &str, default: Value) -> Option<Value> {
        let value = self.given.get(name).filter(|value| !value.is_null()).cloned();
        self.echo.insert(name.into(), value.clone().unwrap_or(default));
        value
    }

    /// Says otherwise what the answer repeats.
    pub(super) fn repeat(&mut self, name: &str, value: Value) {
        self.echo.insert(name.into(), value);
    }

    /// A field is wrong.
    pub(super) fn refuse(&mut self, name: &str, message: impl AsRef<str>) {
        self.refuse_at(&[json!(name)], message.as_ref(), "value_error");
    }

    /// Something within a field is wrong.
    pub(super) fn refuse_at(&mut self, place: &[Value], message: &str, kind: &str) {
        self.wrong.push(fault(place, message, kind));
    }

    fn typed<T>(
        &mut self,
        name: &str,
        default: Value,
        read: impl Fn(&Value) -> Result<T, [&'static str; 2]>,
    ) -> Option<T> {
        match read(&self.value(name, default)?) {
            Ok(value) => Some(value),
            Err([message, kind]) => {
                self.refuse_at(&[json!(name)], message, kind);
                None
            }
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str, default: Value) -> Option<String> {
        self.typed(name, default, |value| {
            value.as_str().map(str::to_owned).ok_or(["Input should be a valid string", "string_type"])
        })
    }

    /// A text that says something.
    pub(super) fn word(&mut self, name: &str, default: Value) -> Option<String> {
        self.text(name, default).filter(|text| !text.trim().is_empty())
    }

    /// An integer.
    pub(super) fn whole(&mut self, name: &str, default: i64) -> Option<i128> {
        let read = self.typed(name, json!(default), whole)?;
        // As an integer, however it was written.
        if let Some(n) = i64::try_from(read).map(Value::from).ok().or(u64::try_from(read).map(Value::from).ok()) {
            self.repeat(name, n);
        }
        Some(read)
    }

    /// A number of things.
    pub(super) fn count(&mut self, name: &str, default: i64) -> Option<usize> {
        let n = self.whole(name, default)?;
        let count = usize::try_from(n).ok().filter(|n| *n <= 1 << 40);
        if count.is_none() {
            let (message, kind) = match n < 0 {
                true => ("Input should be greater than or equal to 0", "greater_than_equal"),
                false => ("Input should be less than or equal to 1000000", "less_than_equal"),
            };
            self.refuse_at(&[json!(name)], message, kind);
        }
        count
    }

    /// A number.
    pub(super) fn number(&mut self, name: &str, default: Value) -> Option<f64> {
        self.typed(name, default, number)
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str, default: Value) -> Option<bool> {
        self.typed(name, default, flag)
    }

    /// A list; a list of one may be sent as the thing itself.
    pub(super) fn list(&mut self, name: &str, default: Value) -> Option<Vec<Value>> {
        Some(match self.value(name, default)? {
            Value::Array(all) => all,
            one => vec![one],
        })
    }

    /// An object.
    pub(super) fn object(&mut self, name: &str, default: Value) -> Option<Map<String, Value>> {
        self.typed(name, default, |value| {
            value.as_object().cloned().ok_or(["Input should be a valid dictionary", "dict_type"])
        })
    }

    /// What this API takes for granted, and refuses when it is asked for: a field that has to be off.
    pub(super) fn off(&mut self, name: &str, default: Value, message: &str) {
        if self.flag(name, default) == Some(true) {
            self.refuse(name, message);
        }
    }

    /// The request as the answer repeats it.
    ///
    /// # Errors
    /// 422: all that is wrong.
    pub(super) fn done(self) -> Result<Map<String, Value>, No> {
        if self.wrong.is_empty() {
            return Ok(self.echo);
        }
        Err(No::new(StatusCode::UNPROCESSABLE_ENTITY, Value::Array(self.wrong)))
    }
}

/// An integer, however it is written.
pub(super) fn whole(value: &Value) -> Result<i128, [&'static str; 2]> {
    const WRONG: [&str; 2] = ["Input should be a valid integer, unable to parse string as an integer", "int_parsing"];
    const BROKEN: [&str; 2] =
        ["Input should be a valid integer, got a number with a fractional part", "int_from_float"];
    let of_float = |v: f64| if v.fract() == 0.0 && v.abs() < 1e30 { Ok(v as i128) } else { Err(BROKEN) };
    match value {
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), ..) => Ok(n.into()),
            (_, Some(n), _) => Ok(n.into()),
            (.., Some(v)) => of_float(v),
            _ => Err(WRONG),
        },
        Value::String(text) => {
            let text = text.trim();
            text.parse::<i64>().map(i128::from).or(text.parse::<u64>().map(i128::from)).map_err(|_| WRONG)
        }
        Value::Bool(yes) => Ok((*yes).into()),
        _ => Err(["Input should be a valid integer", "int_type"]),
    }
}

/// A number, however it is written.
pub(super) fn number(value: &Value) -> Result<f64, [&'static str; 2]> {
    const WRONG: [&str; 2] = ["Input should be a valid number, unable to parse string as a number", "float_parsing"];
    match value {
        Value::Number(n) => n.as_f64().ok_or(WRONG),
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|v| v.is_finite()).ok_or(WRONG),
        Value::Bool(yes) => Ok(f64::from(*yes)),
        _ => Err(["Input should be a valid number", "float_type"]),
    }
}

/// A truth value, however it is written.
pub(super) fn flag(value: &Value) -> Result<bool, [&'static str; 2]> {
    const WRONG: [&str; 2] = ["Input should be a valid boolean, unable to interpret input", "bool_parsing"];
    match value {
        Value::Bool(yes) => Ok(*yes),
        Value::Number(n) if n.as_f64() == Some(0.0) => Ok(false),
        Value::Number(n) if n.as_f64() == Some(1.0) => Ok(true),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(WRONG),
        },
        Value::Number(_) => Err(WRONG),
        _ => Err(["Input should be a valid boolean", "bool_type"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_taken_as_javascript_and_python_write_them() {
        let mut f = fields(json!({"a": 42.0, "b": "17", "c": true, "d": u64::MAX, "e": null, "f": -1, "g": 7}));
        assert_eq!(f.whole("a", 0), Some(42));
        assert_eq!((f.whole("b", 0), f.whole("c", 0)), (Some(17), Some(1)));
        assert_eq!(f.whole("d", 0), Some(u64::MAX.into()));
        assert_eq!((f.whole("e", 5), f.whole("nothing", 6), f.whole("f", 0)), (None, None, Some(-1)));
        assert_eq!(f.number("g", Value::Null), Some(7.0));
        let echo = f.done().unwrap();
        assert_eq!(
            Value::Object(echo),
            json!({"a": 42, "b": 17, "c": 1, "d": u64::MAX, "e": 5, "nothing": 6, "f": -1, "g": 7})
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_place() {
        let mut f = fields(json!({"steps": "many", "width": [64], "seed": 1.5, "tiling": "perhaps", "prompt": 3}));
        f.count("steps", 50);
        f.count("width", 512);
        f.whole("seed", -1);
        f.flag("tiling", Value::Null);
        f.text("prompt", json!(""));
        let no = f.done().unwrap_err();
        assert_eq!(no.status, StatusCode::UNPROCESSABLE_ENTITY);
        let told: Vec<(Value, Value)> =
            no.detail.as_array().unwrap().iter().map(|e| (e["loc"].clone(), e["type"].clone())).collect();
        let expected = [
            ("steps", "int_parsing"),
            ("width", "int_type"),
            ("seed", "int_from_float"),
            ("tiling", "bool_parsing"),
            ("prompt", "string_type"),
        ];
        assert_eq!(told, expected.map(|(name, kind)| (json!(["body", name]), json!(kind))));
    }

    #[test]
    fn a_body_that_is_no_object_is_told_apart() {
        for (body, kind) in [("", "missing"), (" ", "missing"), ("{\"a\": ", "json_invalid"), ("[1, 2]", "dict_type")] {
            let no = Fields::read(body.as_bytes()).err().unwrap();
            assert_eq!((no.status.as_u16(), &no.detail[0]["type"]), (422, &json!(kind)), "{body}");
            assert_eq!(no.detail[0]["loc"][0], "body");
        }
    }
}
