//! What is known of one job, on the disk and in answers.

use crate::job::order::Order;
use crate::server::fault::Fault;
use crate::server::jobs::order;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It waits.
    Queued,
    /// It is drawn.
    Running,
    /// All its pictures are there.
    Done,
    /// It was given up.
    Failed,
    /// Somebody stopped it; what was finished by then is there.
    Cancelled,
}

impl State {
    /// Whether nothing more comes.
    pub(crate) fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }

    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which API a job came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client {
    /// The native one.
    Api,
    /// The webui's.
    Sdapi,
    /// OpenAI's.
    Openai,
}

/// The model of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelName {
    /// As the list of models calls it.
    pub(crate) id: String,
    /// As metadata call it.
    pub(crate) name: String,
    /// Of its file; null until it was read once.
    pub(crate) sha256: Option<String>,
}

/// What a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PictureKind {
    /// Drawn.
    Picture,
    /// The labelled sheet of a grid.
    Sheet,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Picture {
    /// Of its file: its name in the folder of pictures.
    pub(crate) sha256: String,
    /// Which of the job, from 0; the sheet is behind all others.
    pub(crate) index: usize,
    /// What it is.
    pub(crate) kind: PictureKind,
    /// Pixels.
    pub(crate) width: usize,
    /// Pixels.
    pub(crate) height: usize,
    /// The seed that makes it alone.
    pub(crate) seed: Option<u64>,
    /// The fields of the order that it has otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cell: Option<Map<String, Value>>,
    /// The text in the PNG.
    pub(crate) parameters: Option<String>,
}

impl Picture {
    /// As the native API tells it.
    pub(crate) fn wire(&self) -> Value {
        let sha = &self.sha256;
        json!({
            "sha256": sha,
            "url": format!("images/{sha}.png"),
            "thumb": format!("thumbs/{sha}.png"),
            "index": self.index,
            "kind": self.kind,
            "width": self.width,
            "height": self.height,
            "seed": self.seed.map(order::big),
            "cell": self.cell.clone().map(|cell| order::told(Value::Object(cell))),
            "parameters": self.parameters,
        })
    }
}

/// How far a running job is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Progress {
    /// `load`, `text`, `encode`, `draw`, `decode`, `write`.
    pub(crate) stage: &'static str,
    /// Which picture, from 0.
    pub(crate) picture: usize,
    /// Sampler steps done.
    pub(crate) step: usize,
    /// Null where nobody knows.
    pub(crate) steps: Option<usize>,
    /// Of the whole job; it never goes back.
    pub(crate) share: f64,
    /// Seconds.
    pub(crate) elapsed: f64,
    /// Seconds; null until two steps are measured.
    pub(crate) left: Option<f64>,
}

/// How far a picture is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preview {
    /// Which picture, from 0.
    pub(crate) picture: usize,
    /// Sampler steps done.
    pub(crate) step: usize,
    /// Of the picture that it will become.
    pub(crate) width: usize,
    /// Of the picture that it will become.
    pub(crate) height: usize,
    /// A PNG, no side longer than 256, at most 64 KiB.
    pub(crate) png: Vec<u8>,
}

/// One job: the request after defaults, what became of it, and its pictures. Written before it runs and when it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Sorts by time.
    pub(crate) id: String,
    /// Grows with each change.
    pub(crate) revision: u64,
    /// How far it is.
    pub(crate) state: State,
    /// With defaults filled in; models by id, pictures by sha256.
    pub(crate) order: Order,
    /// Fields of the order that the client left out.
    pub(crate) defaulted: Vec<String>,
    /// The model.
    pub(crate) model: ModelName,
    /// Pictures that it makes: count, or the grid's cells.
    pub(crate) total: usize,
    /// RFC 3339.
    pub(crate) created: String,
    /// RFC 3339.
    pub(crate) started: Option<String>,
    /// RFC 3339.
    pub(crate) ended: Option<String>,
    /// Begun so many times.
    pub(crate) attempts: u32,
    /// Which API it came by.
    pub(crate) client: Client,
    /// As they are finished.
    pub(crate) pictures: Vec<Picture>,
    /// What the asker should know.
    pub(crate) notes: Vec<String>,
    /// Why it failed.
    pub(crate) error: Option<Fault>,
    /// What pictures of the same order are recognised by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The client's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency: Option<String>,
}

impl Job {
    /// As the native API tells it.
    pub(crate) fn wire(&self, position: Option<usize>, progress: Option<&Progress>) -> Value {
        json!({
            "id": self.id,
            "revision": self.revision,
            "state": self.state,
            "order": order::wire(&self.order),
            "defaulted": self.defaulted,
            "model": self.model,
            "total": self.total,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
            "position": position,
            "attempts": self.attempts,
            "client": self.client,
            "progress": progress,
            "pictures": self.pictures.iter().map(Picture::wire).collect::<Vec<_>>(),
            "notes": self.notes,
            "error": self.error,
        })
    }
}
