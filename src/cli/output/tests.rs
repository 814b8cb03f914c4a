//! What `-o` may say goes in; the names, the files and the refusals that must follow are written beside it.

use super::*;
use lienzo::error::Kind;

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lienzo-output-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn spec(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }

    fn plan(&self, name: &str, count: usize, overwrite: bool) -> Result<OutputPlan> {
        OutputPlan::new(Some(&self.spec(name)), count, overwrite)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn names_follow_the_pattern() {
    let f = Folder::new("names");
    for (spec, count, index, expected) in [
        ("a.png", 1, 0, "a.png"),
        ("a.png", 3, 2, "a_3.png"),
        ("a.PNG", 1, 0, "a.PNG"),
        ("a", 1, 0, "a.png"),
        ("v1.5", 2, 0, "v1.5_1.png"),
        ("%d.png", 2, 1, "2.png"),
        ("a_%03d.png", 1, 0, "a_001.png"),
        ("a-%03d", 12, 11, "a-012.png"),
        ("{seed}.png", 2, 0, "77.png"),
        ("{index}-{seed}.png", 2, 1, "2-77.png"),
        ("100%-%x-%999d.png", 1, 0, "100%-%x-%999d.png"),
        ("ñ{índex}.png", 1, 0, "ñ{índex}.png"),
    ] {
        assert_eq!(name(&f.plan(spec, count, false).unwrap().path(index, 77)), expected, "{spec}");
    }
}

#[test]
fn a_folder_takes_the_next_free_number() {
    let f = Folder::new("free");
    for expected in ["output.png", "output_1.png", "output_2.png"] {
        let written = f.plan("", 1, false).unwrap().write(0, 5, b"x").unwrap();
        assert_eq!(name(&written), expected);
    }
    let plan = f.plan("", 2, false).unwrap();
    assert_eq!((name(&plan.path(0, 0)), name(&plan.path(1, 0))), ("output_3.png", "output_4.png"));
    // Another process was faster.
    fs::write(f.0.join("output_3.png"), b"other").unwrap();
    assert_eq!(name(&plan.write(0, 0, b"mine").unwrap()), "output_4.png");
    assert_eq!(name(&plan.write(1, 0, b"mine").unwrap()), "output_5.png");
    assert_eq!(fs::read(f.0.join("output_3.png")).unwrap(), b"other");
    // Asked for by name, the default's name is refused like any other.
    assert!(f.plan("output.png", 1, false).is_err());
    assert_eq!(name(&f.plan("", 1, true).unwrap().path(0, 0)), "output.png");
}

#[test]
fn without_a_name_the_current_folder_is_meant() {
    let plan = OutputPlan::new(None, 1, true).unwrap();
    assert_eq!(plan.path(0, 0), Path::new("output.png"));
}

#[test]
fn what_is_there_stays() {
    let f = Folder::new("stays");
    fs::write(f.0.join("a_2.png"), b"old").unwrap();
    let error = f.plan("a.png", 2, false).unwrap_err();
    assert!(*error.kind() == Kind::Usage && error.remedies().contains(&Remedy::Overwrite), "{error}");
    let plan = f.plan("a_{seed}.png", 1, false).unwrap();
    assert!(plan.check_seeds(1, 2).is_err() && plan.check_seeds(3, 2).is_ok());
    // It came into being while the picture was made.
    assert!(plan.write(0, 2, b"new").unwrap_err().to_string().contains("exists"));
    assert_eq!(fs::read(f.0.join("a_2.png")).unwrap(), b"old");
    f.plan("a.png", 2, true).unwrap().write(1, 0, b"new").unwrap();
    assert_eq!(fs::read(f.0.join("a_2.png")).unwrap(), b"new");
    assert_eq!(f.names(), ["a_2.png"]);
}

#[test]
fn a_file_appears_whole_and_alone() {
    let f = Folder::new("whole");
    let path = f.0.join("a.png");
    assert_eq!(write_png(&path, b"bytes", false).unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    // A folder in the way: the temporary file goes as well.
    fs::create_dir_all(f.0.join("b.png/full")).unwrap();
    assert!(write_png(&f.0.join("b.png"), b"x", true).is_err());
    assert!(write_png(&f.0.join("b.png"), b"x", false).is_err());
    assert_eq!(f.names(), ["a.png", "b.png"]);
}

#[test]
fn wrong_places_are_refused_before_any_work() {
    let f = Folder::new("wrong");
    fs::write(f.0.join("file"), b"").unwrap();
    for (spec, count, why) in [
        ("none/a.png", 1, "does not exist"),
        ("none/", 1, "does not exist"),
        ("file/a.png", 1, "output: "),
        ("a.jpg", 1, "only PNG"),
        ("a.%d.WebP", 1, "only PNG"),
    ] {
        let error = f.plan(spec, count, false).unwrap_err();
        assert!(*error.kind() == Kind::Usage && error.to_string().contains(why), "{error}");
    }
    assert!(OutputPlan::new(Some(""), 1, false).is_err());
    assert_eq!(f.names(), ["file"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_s_refusals_are_sentences() {
    // No user, root included, can create a file there.
    let error = OutputPlan::new(Some("/proc/self/"), 1, false).unwrap_err();
    assert!(*error.kind() == Kind::Other && error.to_string().contains("cannot be written: "), "{error}");
    let full = cannot_write(Path::new("a.png"), &ErrorKind::StorageFull.into());
    assert_eq!(
        full.to_string(),
        "'a.png' cannot be written: the disk is full: free some space or choose another place"
    );
}
