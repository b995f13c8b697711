//! Pages in a real browser, without a screen: what they hold, how wide they are, and whether they can be read.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::must;

/// WCAG's level AA for text.
const CONTRAST_MIN: f64 = 4.5;

/// How the browser is to prefer colours.
#[derive(Clone, Copy)]
pub(crate) enum Scheme {
    Dark = 0,
    Light = 1,
}

/// Where pictures are left for a person to look at.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Chromium with a profile of its own.
pub(crate) struct Browser<'h> {
    pub(crate) home: &'h Path,
}

impl Browser<'_> {
    fn command(&self, scheme: Scheme) -> Command {
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]);
        command.args(["--hide-scrollbars", "--virtual-time-budget=3000"]);
        command.arg(format!("--blink-settings=preferredColorScheme={}", scheme as u8));
        command.arg(format!("--user-data-dir={}", self.home.join("chromium").display()));
        command.env("HOME", self.home);
        command
    }

    /// What the page came to.
    pub(crate) fn dom(&self, url: &str) -> String {
        must(self.command(Scheme::Light).arg("--dump-dom").arg(url))
    }

    /// Puts a page into a frame of this width, in which a script may measure it, as the page itself allows none.
    pub(crate) fn framed(&self, page: &str, width: u32) -> String {
        let page = Value::from(page).to_string().replace("</", "<\\/").replace("<!--", "<\\!--");
        let html = format!(
            "<!DOCTYPE html><meta charset=\"utf-8\"><body style=\"margin:0\"><iframe style=\"border:0;width:{width}px;height:3000px\"></iframe><pre></pre><script>{}</script>",
            include_str!("browser.js").replace("PAGE", &page)
        );
        let frame = self.home.join("frame.html");
        fs::write(&frame, html).expect("written");
        format!("file://{}", frame.display())
    }

    /// What the script found: the width that the page takes, the text with the least contrast, and what should not be there.
    pub(crate) fn measured(&self, page: &str, width: u32, scheme: Scheme) -> Value {
        let url = self.framed(page, width);
        let dom = must(self.command(scheme).arg("--dump-dom").arg(url));
        let found = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
        let found = found.map_or("", |(found, _)| found).replace("&lt;", "<").replace("&gt;", ">");
        serde_json::from_str(&found.replace("&amp;", "&"))
            .unwrap_or_else(|error| panic!("{error}: {dom}"))
    }

    /// Holds a page to what all have to be: as wide as a phone and a desk, and legible by day and by night.
    pub(crate) fn must_be_readable(&self, page: &str) {
        for (width, scheme) in
            [(360, Scheme::Light), (360, Scheme::Dark), (1280, Scheme::Light), (1280, Scheme::Dark)]
        {
            let mut found = self.measured(page, width, scheme);
            found["report"] = Value::Null;
            assert_eq!(found["width"], width, "it scrolls sideways: {found}");
            let contrast = found["contrast"].as_f64().expect("a number");
            assert!(contrast >= CONTRAST_MIN, "{found}");
            assert!(found["texts"].as_u64().is_some_and(|texts| texts > 20), "{found}");
            assert_eq!((&found["loaded"], &found["active"]), (&0.into(), &0.into()), "{found}");
        }
    }

    /// Takes a picture, leaves it for a person to look at, and returns it.
    pub(crate) fn shot(&self, url: &str, name: &str, size: (u32, u32), scheme: Scheme) -> Vec<u8> {
        let to = picture(name);
        let mut command = self.command(scheme);
        command.arg(format!("--window-size={},{}", size.0, size.1));
        must(command.arg(format!("--screenshot={}", to.display())).arg(url));
        fs::read(to).expect("a picture")
    }
}
