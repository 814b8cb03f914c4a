//! A job that waits or runs goes in; how far it is, as the webui tells it, comes out.

use super::pictures::base64_of;
use crate::server::jobs::record::{Job, Preview, Progress, State};
use serde_json::{Value, json};

/// What is known of a job on its way.
pub(super) struct Now<'a> {
    /// The record.
    pub(super) job: &'a Job,
    /// How far it is, once it runs.
    pub(super) progress: Option<&'a Progress>,
    /// What it looks like.
    pub(super) preview: Option<&'a Preview>,
    /// Whether it was told to stop.
    pub(super) interrupted: bool,
    /// Whether its picture was told to stop.
    pub(super) skipped: bool,
}

/// `GET progress`.
pub(super) fn told(now: Option<&Now<'_>>, with_image: bool) -> Value {
    let Some(now) = now else { return idle() };
    let job = now.job;
    let share = now.progress.map_or(0.0, |p| p.share);
    let steps = now.progress.and_then(|p| p.steps).or(job.order.steps).unwrap_or_default();
    let image = now.preview.filter(|_| with_image).map(|p| base64_of(&p.png));
    json!({
        "progress": share.clamp(0.0, 1.0),
        "eta_relative": now.progress.and_then(|p| p.left).unwrap_or(0.0),
        "state": {
            "skipped": now.skipped,
            "interrupted": now.interrupted,
            "stopping_generation": now.interrupted,
            "job": if job.order.init_image.is_some() { "img2img" } else { "txt2img" },
            "job_count": job.total.max(1),
            "job_timestamp": stamp(job),
            "job_no": job.pictures.len().min(job.total.saturating_sub(1)),
            "sampling_step": now.progress.map_or(0, |p| p.step).min(steps),
            "sampling_steps": steps,
        },
        "current_image": image,
        "textinfo": (job.state == State::Queued).then_some("In queue..."),
    })
}

/// When a job began, or was made: year to second, digits only.
fn stamp(job: &Job) -> String {
    let time = job.started.as_deref().unwrap_or(&job.created);
    time.chars().filter(char::is_ascii_digit).take(14).collect()
}

fn idle() -> Value {
    json!({
        "progress": 0.0,
        "eta_relative": 0.0,
        "state": {
            "skipped": false, "interrupted": false, "stopping_generation": false, "job": "", "job_count": 0,
            "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0,
        },
        "current_image": null,
        "textinfo": null,
    })
}

/// `POST /internal/progress`: of one task. `seen` is the preview that the client has.
pub(super) fn of_task(now: Option<&Now<'_>>, seen: i64, with_image: bool) -> Value {
    let state = now.map(|now| now.job.state);
    let id = now.and_then(|now| now.preview).map_or(-1, |p| (p.picture * 10_000 + p.step) as i64);
    let preview = now.and_then(|now| now.preview).filter(|_| with_image && id != seen);
    let progress = now.and_then(|now| now.progress);
    json!({
        "active": state == Some(State::Running),
        "queued": state == Some(State::Queued),
        "completed": state.is_some_and(State::ended),
        "progress": progress.map(|p| p.share),
        "eta": progress.and_then(|p| p.left),
        "live_preview": preview.map(|p| format!("data:image/png;base64,{}", base64_of(&p.png))),
        "id_live_preview": id,
        "textinfo": if state == Some(State::Queued) { "In queue..." } else { "Waiting..." },
    })
}
