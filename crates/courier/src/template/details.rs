//! What `courier template inspect` shows.

use courier_types::egress::Policy;
use courier_types::{BuildConfig, Limits};

use super::manifest::Template;
use crate::{egress, output};

/// Width of the names before what is shown.
const NAME_WIDTH: usize = 11;

/// One template and one of its builds, wherever it is.
#[derive(Debug, Default)]
pub(super) struct Details<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its id.
    pub(super) template_id: &'a str,
    /// The build's id or reference.
    pub(super) build: &'a str,
    /// The tags that mean the build.
    pub(super) tags: &'a [String],
    /// When it was made, RFC 3339.
    pub(super) created: &'a str,
    /// Size of its image in bytes.
    pub(super) size_bytes: Option<u64>,
    /// Digest of the image that it started from.
    pub(super) image_digest: Option<&'a str>,
    /// What it says about its sandboxes.
    pub(super) config: BuildConfig,
    /// The caps of its sandboxes.
    pub(super) limits: Limits,
    /// What they may reach.
    pub(super) egress: Option<&'a Policy>,
}

impl Details<'_> {
    /// One line for each thing.
    pub(super) fn text(&self) -> String {
        let mut text = Lines::default();
        text.line("name", self.name);
        text.line("template", self.template_id);
        text.line("build", self.build);
        text.line("tags", &self.tags.join(", "));
        text.line("created", self.created);
        text.line(
            "size",
            &self.size_bytes.map_or_else(String::new, |size| format!("{} MiB", size >> 20)),
        );
        text.line("image", self.image_digest.unwrap_or_default());
        let limits = self.limits;
        text.line("memory", &format!("{} MiB", limits.memory_mib()));
        text.line("cpus", &(f64::from(limits.cpu_millis()) / 1000.0).to_string());
        text.line("disk", &format!("{} MiB", limits.disk_mib()));
        text.line("egress", &self.egress.map_or_else(|| "not bounded".to_owned(), egress::brief));
        text.line("user", &self.config.user);
        text.line("folder", &self.config.workdir);
        for (name, value) in &self.config.env {
            text.line("variable", &format!("{name}={value}"));
        }
        text.line("start", self.config.start.as_deref().unwrap_or_default());
        text.line("ready", self.config.ready.as_deref().unwrap_or_default());
        text.0
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    /// What is empty is not shown. What a build chose cannot look like a line of ours.
    fn line(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let value = output::printable_name(value);
            self.0.push_str(&format!("{name:<NAME_WIDTH$}{value}\n"));
        }
    }
}

/// A template of the template folder.
pub(super) fn of_folder(template: &Template) -> String {
    Details {
        name: &template.name,
        template_id: template.template_id.as_str(),
        build: &template.build,
        created: &template.created.to_rfc3339(),
        size_bytes: Some(template.size_bytes),
        config: template.config.clone(),
        limits: template.limits,
        egress: template.egress.as_ref(),
        ..Details::default()
    }
    .text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_says_is_shown_line_by_line() {
        let config = BuildConfig {
            env: [("PATH".to_owned(), "/x\nforged   y".to_owned())].into(),
            start: Some("serve".to_owned()),
            ready: Some("curl -sf localhost".to_owned()),
            ..BuildConfig::default()
        };
        let tags = ["default".to_owned(), "v1".to_owned()];
        let details = Details {
            name: "web",
            template_id: "t0",
            build: "b0",
            tags: &tags,
            created: "2026-01-01T00:00:00Z",
            size_bytes: Some(300 << 20),
            image_digest: Some("sha256:00"),
            config,
            ..Details::default()
        };
        insta::assert_snapshot!(details.text());
    }
}
