//! A picture goes in, what its texts say comes out: the webui's `png-info`.

use super::No;
use super::fields::Fields;
use super::pictures::bytes_of;
use crate::image::parameters::Parameters;
use crate::image::read::Picture;
use crate::image::{PARAMETERS, PictureLimits};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The whole answer; a picture without texts has an empty one.
///
/// # Errors
/// 422: there is no picture.
pub(super) fn png_info(body: &[u8]) -> Result<Value, No> {
    let mut f = Fields::read(body)?;
    let text = f.text("image", json!("")).unwrap_or_default();
    let read = bytes_of(&text).and_then(|bytes| {
        Picture::of_bytes(&bytes, Path::new("the picture"), PictureLimits::default()).map_err(|e| e.to_string())
    });
    let picture = read.map_err(|why| f.refuse("image", why)).ok();
    f.done()?;
    let texts = picture.map(|picture| picture.texts).unwrap_or_default();
    let info = texts.iter().find(|(key, _)| key == PARAMETERS).map(|(_, text)| text.clone()).unwrap_or_default();
    let items: Map<String, Value> = texts.into_iter().map(|(key, text)| (key, text.into())).collect();
    Ok(json!({"parameters": parsed(&info), "info": info, "items": items}))
}

/// Settings by the names that they have in the text; sizes in two.
fn parsed(text: &str) -> Map<String, Value> {
    let mut out = Map::new();
    if text.is_empty() {
        return out;
    }
    let Parameters { prompt, negative_prompt, entries } = Parameters::parse(text);
    out.insert("Prompt".into(), prompt.into());
    out.insert("Negative prompt".into(), negative_prompt.into());
    for (key, value) in entries {
        let digits = |side: &str| !side.is_empty() && side.bytes().all(|b| b.is_ascii_digit());
        match value.split_once('x').filter(|(w, h)| digits(w) && digits(h)) {
            Some((w, h)) => {
                out.insert(format!("{key}-1"), w.into());
                out.insert(format!("{key}-2"), h.into());
            }
            None => drop(out.insert(key, value.into())),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::pictures::base64_of;
    use super::*;
    use crate::image::{Image, png_bytes};

    fn told(text: Option<&str>) -> Value {
        let png = png_bytes(&Image { width: 2, height: 1, rgb: vec![9; 6] }, text).unwrap();
        png_info(json!({"image": format!("data:image/png;base64,{}", base64_of(&png))}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn settings_are_told_by_their_names() {
        let text = "a cat, 猫\nNegative prompt: dog\nSteps: 4, Sampler: Euler a, Seed: 9, Size: 128x64";
        let answer = told(Some(text));
        assert_eq!((&answer["info"], &answer["items"]["parameters"]), (&json!(text), &json!(text)));
        let expected = json!({
            "Prompt": "a cat, 猫", "Negative prompt": "dog", "Steps": "4", "Sampler": "Euler a", "Seed": "9",
            "Size-1": "128", "Size-2": "64",
        });
        assert_eq!(answer["parameters"], expected);
        let plugin = answer["info"].as_str().unwrap().rsplit('\n').next().unwrap().split(", ").count();
        assert_eq!(plugin, 4);
    }

    #[test]
    fn a_picture_that_says_nothing_has_an_empty_text() {
        assert_eq!(told(None), json!({"parameters": {}, "info": "", "items": {}}));
        for image in ["", "http://127.0.0.1/a.png", "AAAA", "!"] {
            let no = png_info(json!({"image": image}).to_string().as_bytes()).unwrap_err();
            assert_eq!((no.status.as_u16(), &no.detail[0]["loc"]), (422, &json!(["body", "image"])), "{image}");
        }
        assert!(png_info(b"{}").is_err());
    }
}
