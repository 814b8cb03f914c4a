//! The bytes of a picture over the API are those of the command line for the same order.

use super::client::Server;
use crate::common::{Temp, lienzo, stderr};
use serde_json::json;

#[test]
fn the_bytes_are_the_command_lines() {
    let dir = Temp::new();
    let made = |args: &[&str], name: &str| {
        let output = lienzo(&dir, &[&["generate"][..], args, &["-t", "2", "-o", name]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(dir.join(name)).expect("a picture")
    };
    let server = Server::start(&dir, &[]);
    let plain = made(&["a red apple", "-s", "42", "--steps", "3"], "plain.png");
    let job = server.draw(&json!({"prompt": "a red apple", "seed": 42, "steps": 3}));
    assert!(server.picture(&job, 0) == plain, "{job}");
    // Words of other programs, a seed that JavaScript cannot hold, several pictures.
    let flags =
        ["two cats", "-s", "18446744073709551614", "--steps", "2", "-b", "2", "--sampling-method", "dpm++2m karras"];
    let output = lienzo(&dir, &[&["generate"][..], &flags, &["-t", "2", "-o", "many_%d.png"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let order = json!({"prompt": "two cats", "seed": "18446744073709551614", "steps": 2, "count": 2, "sampler": "dpm++2m karras"});
    let job = server.draw(&order);
    assert_eq!(job["order"]["seed"], "18446744073709551614");
    for i in 0..2 {
        let bytes = std::fs::read(dir.join(&format!("many_{}.png", i + 1))).expect("a picture");
        assert!(server.picture(&job, i) == bytes, "picture {i} of {job}");
    }
    // From a picture, and with a mask.
    let from = ["a blue star", "-s", "7", "--steps", "4", "-i", "plain.png", "--strength", "0.5"];
    let drawn = made(&from, "from.png");
    let sha = server.upload(&dir.join("plain.png"));
    let order = json!({"prompt": "a blue star", "seed": 7, "steps": 4, "init_image": sha, "strength": 0.5});
    let job = server.draw(&order);
    assert!(server.picture(&job, 0) == drawn, "{job}");
    // A record's order is that picture's: asked again it is known, and nothing is drawn.
    let again = server.post("/api/jobs", &job["order"]);
    assert_eq!((again.status, &again.json()["id"]), (200, &job["id"]));
}

#[test]
fn a_grid_has_its_cells_and_a_sheet() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let job = server.draw(&json!({"prompt": "a red apple", "seed": 5, "grid": "steps=2,3 x cfg=2.5,4"}));
    assert_eq!((&job["state"], &job["total"]), (&json!("done"), &json!(4)), "{job}");
    let pictures = job["pictures"].as_array().expect("pictures");
    assert_eq!((pictures.len(), &pictures[4]["kind"], &pictures[4]["seed"]), (5, &json!("sheet"), &json!(null)));
    assert_eq!(pictures[2]["cell"], json!({"steps": 2, "guidance": 4.0}), "{}", pictures[2]);
    // A cell is the picture of its own order.
    let alone = server.draw(&json!({"prompt": "a red apple", "seed": 5, "steps": 2, "guidance": 4}));
    assert!(server.picture(&alone, 0) == server.picture(&job, 2));
    let small = server.get(&format!("/{}", pictures[4]["thumb"].as_str().expect("a thumb")));
    let side =
        |at: usize| u32::from_be_bytes([small.body[at], small.body[at + 1], small.body[at + 2], small.body[at + 3]]);
    assert!(side(16).max(side(20)) <= 320, "{}x{}", side(16), side(20));
}

#[test]
fn what_a_picture_says_becomes_its_order() {
    let dir = Temp::new();
    let server = Server::start(&dir, &[]);
    let job = server.draw(&json!({"prompt": "a green frog", "seed": 11, "steps": 2}));
    let png = server.picture(&job, 0);
    let info = server.send("POST", "/api/png-info", &[("Content-Type", "image/png")], Some(&png)).json();
    assert_eq!((&info["problems"], &info["order"]["seed"]), (&json!([]), &json!(11)), "{info}");
    assert_eq!(info["order"]["model"], "embedded");
    let again = server.draw(&info["order"]);
    assert!(server.picture(&again, 0) == png);
}
