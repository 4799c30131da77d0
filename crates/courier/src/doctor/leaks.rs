//! `courier doctor --leaks`: what is left of sandboxes that nobody owns.

use std::process::ExitCode;

use anyhow::Context as _;

use super::NOT_WELL;
use crate::config::Config;

/// Lists what the launcher's next start would remove; fails when there is anything.
pub(super) async fn report(config: &Config, form: super::Form) -> anyhow::Result<ExitCode> {
    let found =
        courier_driver::leaks::find_leaks(&config.launcher_dir).await.with_context(|| {
            format!(
                "cannot look for leaks of {}: run this as the user that runs the launcher (root)",
                config.launcher_dir.display()
            )
        })?;
    let leaks: Vec<String> = found.iter().map(ToString::to_string).collect();
    match form {
        super::Form::Json => println!("{}", serde_json::json!({ "leaks": leaks })),
        super::Form::Text => print!("{}", text(&leaks, &config.launcher_dir.display().to_string())),
    }
    Ok(if leaks.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL) })
}

fn text(leaks: &[String], folder: &str) -> String {
    if leaks.is_empty() {
        return format!("Nothing is left in {folder} that nobody owns.\n");
    }
    let list: String = leaks.iter().map(|leak| format!("  {leak}\n")).collect();
    format!(
        "Left of sandboxes that nobody owns; the launcher removes it when it starts next:\n{list}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_are_listed_one_a_line_and_none_is_said_plainly() {
        assert_eq!(text(&[], "/d"), "Nothing is left in /d that nobody owns.\n");
        assert!(text(&["process 7".to_owned()], "/d").ends_with("next:\n  process 7\n"));
    }
}
