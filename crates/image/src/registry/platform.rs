//! Which of an index's images is for this machine.

use std::fmt;

use serde::Deserialize;

/// Most platforms that an error lists.
const LISTED_MAX: usize = 20;
/// Most characters of one of them: it is the registry that wrote them.
const TEXT_MAX: usize = 40;

/// What an image is for (OCI image specification, "Image Index", `platform`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// The operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// The processor's architecture, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// Its variant, such as `v8`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// What runs here: Linux on this processor.
    #[must_use]
    pub fn of_host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Whether an image for `other` runs on this. Only what says a variant can be of another one.
    pub(super) fn runs(&self, other: &Self) -> bool {
        let variant = self.variant_runs(other.variant.as_deref());
        self.os == other.os && self.architecture == other.architecture && variant
    }

    fn variant_runs(&self, other: Option<&str>) -> bool {
        match (other.filter(|variant| !variant.is_empty()), self.variant.as_deref()) {
            (None, _any) => true,
            // The baseline of amd64; v2 and later need more than every such processor has.
            (Some("v1"), None) => self.architecture == "amd64",
            (Some(other), Some(own)) => own == other,
            (Some(_other), None) => false,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| -> String {
            let plain = |c: &char| c.is_ascii_graphic();
            text.chars().filter(plain).take(TEXT_MAX).collect()
        };
        write!(f, "{}/{}", cut(&self.os), cut(&self.architecture))?;
        match self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            Some(variant) => write!(f, "/{}", cut(variant)),
            None => Ok(()),
        }
    }
}

/// The platforms that there are, for an error.
pub(super) fn list<'a>(all: impl Iterator<Item = &'a Platform>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in all.map(Platform::to_string) {
        if !texts.contains(&text) && texts.len() < LISTED_MAX {
            texts.push(text);
        }
    }
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = variant.map(str::to_owned);
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    #[test]
    fn an_image_runs_where_system_processor_and_variant_are_the_same() {
        let arm = platform("linux", "arm64", Some("v8"));
        assert!(arm.runs(&platform("linux", "arm64", None)));
        assert!(arm.runs(&platform("linux", "arm64", Some("v8"))));
        assert!(!arm.runs(&platform("linux", "arm64", Some("v9"))));
        assert!(!arm.runs(&platform("linux", "amd64", None)));
        let amd = platform("linux", "amd64", None);
        assert!(amd.runs(&platform("linux", "amd64", Some(""))));
        assert!(amd.runs(&platform("linux", "amd64", Some("v1"))));
        assert!(!amd.runs(&platform("linux", "amd64", Some("v3"))));
        assert!(!amd.runs(&platform("windows", "amd64", None)));
        let host = Platform::of_host();
        assert!(host.runs(&host));
    }

    #[test]
    fn what_there_is_is_listed_once_cut_and_without_control_characters() {
        let all = [
            platform("linux", "arm64", Some("v8")),
            platform("linux", "arm64", Some("v8")),
            platform("li\u{1b}[0mnux", &"x".repeat(99), None),
        ];
        let expected = format!("linux/arm64/v8, li[0mnux/{}", "x".repeat(TEXT_MAX));
        assert_eq!(list(all.iter()), expected);
        assert_eq!(list([].iter()), "none");
    }
}
