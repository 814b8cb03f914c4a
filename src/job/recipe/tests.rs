//! Texts as programs write them go in; what of them an order takes, and what is told as lacking, is compared.

use super::*;
use crate::job::picture::Files;

fn texts(list: &[(&str, &str)]) -> Texts {
    list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn other_programs_are_named() {
    for (key, text, tool) in [
        ("prompt", "{\"3\": {}}", "ComfyUI"),
        ("workflow", "{}", "ComfyUI"),
        ("invokeai_metadata", "{}", "InvokeAI"),
        ("parameters", "{\"sui_image_params\": {}}", "SwarmUI"),
        ("parameters", "just a prompt", "no settings"),
        ("Software", "GIMP", "holds no settings"),
        ("Comment", "Created with GIMP", "holds no settings"),
        ("Comment", "{\"steps\": 28}", "NovelAI"),
        ("Software", "NovelAI", "NovelAI"),
        ("prompt", "a red apple", "Easy Diffusion"),
        ("XML:com.adobe.xmp", "<xmp:CreatorTool>Draw Things</xmp:CreatorTool>", "Draw Things"),
        ("Description", "a cat --v 5 Job ID: 12", "Midjourney"),
    ] {
        let why = settings(&texts(&[(key, text)])).unwrap_err();
        assert!(why.contains(tool), "{key}: {why}");
    }
    let fooocus = texts(&[("parameters", "{\"steps\": 30}"), ("fooocus_scheme", "fooocus")]);
    assert!(settings(&fooocus).unwrap_err().contains("Fooocus"));
    let p = settings(&texts(&[("prompt", "{}"), ("parameters", "x\nSteps: 1, Seed: 2, Size: 8x8")]));
    assert_eq!(p.unwrap().prompt, "x");
}

/// The order that a text gives, and what it lacks.
fn filled(text: &str) -> (Order, Vec<String>) {
    let recipe =
        Recipe::read(&texts(&[("parameters", &format!("x\nSteps: 4, Seed: 1, Size: 64x64, {text}"))])).unwrap();
    let mut order = Order::default();
    let lacking = recipe.fill(&mut order, &[], &Files, &AtomicBool::new(false)).unwrap();
    (order, lacking.iter().map(|l| l.phrase().to_string()).collect())
}

#[test]
fn a_schedule_that_was_not_written_is_what_its_program_meant() {
    let schedule = |text: &str| (filled(text).0.schedule, filled(text).1.len());
    let uniform = (Some(ScheduleKind::Uniform), 0);
    assert_eq!(schedule("Sampler: dpm++2m, Version: stable-diffusion.cpp"), uniform);
    assert_eq!(schedule("Sampler: DPM++ 2M, Version: v1.6.0"), uniform);
    assert_eq!(schedule("Sampler: DPM++ SDE, Version: f2.0.1v1.8.0-x"), uniform);
    // What is told, or was the same then.
    assert_eq!(schedule("Sampler: DPM++ 2M Karras, Version: v1.6.0"), (None, 0));
    assert_eq!(schedule("Sampler: Restart, Version: v1.6.0"), (None, 0));
    assert_eq!(schedule("Sampler: Euler a"), (None, 0));
    let told = "Sampler: DPM++ 2M, Schedule type: Karras, Version: v1.10.1";
    assert_eq!(schedule(told), (Some(ScheduleKind::Karras), 0));
    // Nobody can know.
    for text in ["Sampler: DPM++ 2M", "Sampler: dpmpp_2m, Version: ComfyUI"] {
        let lacking = filled(text).1;
        assert!(lacking.len() == 1 && lacking[0].contains("the schedule of DPM++ 2M"), "{lacking:?}");
    }
}

#[test]
fn an_eta_that_may_mean_nothing_is_not_guessed() {
    let sdcpp =
        |sampler: &str, eta: &str| filled(&format!("Eta: {eta}, Sampler: {sampler}, Version: stable-diffusion.cpp"));
    let (order, lacking) = sdcpp("euler_a", "0.000000");
    assert!(order.eta.is_none() && lacking[0].starts_with("Eta: 0.000000"), "{lacking:?}");
    assert_eq!(sdcpp("euler", "0.000000").1, Vec::<String>::new());
    assert_eq!((sdcpp("euler_a", "0.500000").0.eta, sdcpp("euler_a", "0.5").1.len()), (Some(0.5), 0));
    assert_eq!(filled("Eta: 0, Sampler: Euler a, Version: v1.10.1").0.eta, Some(0.0));
}

#[test]
fn what_changes_nothing_stops_nothing() {
    let text = "Sampler: Euler, Created Date: 2025-01-01T10:00:00.1Z, Civitai resources: [], Civitai metadata: {}";
    assert_eq!(filled(text).1, Vec::<String>::new());
    let resources = "[{\"type\":\"lora\",\"weight\":0.8,\"modelVersionId\":7}]";
    let lacking = filled(&format!("Sampler: Euler, Civitai resources: {resources}, Created Date: x")).1;
    assert_eq!(lacking, [format!("Civitai resources: {resources}")]);
}

#[test]
fn seeds_of_64_bits_are_repeated() {
    let recipe =
        Recipe::read(&texts(&[("parameters", "x\nSteps: 4, Seed: 12345678901234567890, Size: 64x64")])).unwrap();
    let mut order = Order::default();
    recipe.fill(&mut order, &[], &Files, &AtomicBool::new(false)).unwrap();
    assert_eq!(order.seed, Some(Seed::Fixed(12_345_678_901_234_567_890)));
}

#[test]
fn versions_of_the_webui() {
    for version in ["v1.10.1", "v1.6.0-2-g4afaaf8a", "f2.0.1v1.10.1-previous-664-gd557aef9"] {
        assert!(is_webui(version), "{version}");
    }
    assert_eq!(webui_version("v1.6.0-2-g4afaaf8a"), Some((1, 6)));
    assert_eq!(webui_version("f2.0.1v1.10.1-previous-664-gd557aef9"), Some((1, 10)));
    assert_eq!(webui_version("stable-diffusion.cpp"), None);
    for version in ["Lienzo v0.1.0", "stable-diffusion.cpp", "ComfyUI", "f", ""] {
        assert!(!is_webui(version), "{version}");
    }
}
