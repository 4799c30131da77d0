//! `courier template build -f Dockerfile`: a Dockerfile becomes a template of a running server, by
//! the same calls that E2B's SDKs make.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use courier_protocol::e2b::{
    ImageRegistry, NewTemplateBuild, RequestedTemplateBuild, StartTemplateBuild, TemplateFiles,
    TemplateStep,
};
use courier_protocol::node::Body;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio_util::io::ReaderStream;

use super::context::{Context, ContextError, Packed};
use super::dockerfile::{Action, Base, Copy, MAX_BYTES, Plan, PlannedStep, Source, parse};
use super::follow::{BuildPath, Ending, Look, Printer, follow};
use crate::api::Api;
use crate::config::Config;
use crate::run::interrupt::Interrupt;
use crate::{output, pairs, secret};

/// The file that is read where none is named.
const DOCKERFILE: &str = "Dockerfile";
/// The Dockerfile, or what it runs, is at fault: what docker's build returns too.
const FAILED: u8 = 1;

/// Flags of a build from a Dockerfile.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "From a Dockerfile, on a running server")]
pub(crate) struct DockerArgs {
    /// Dockerfile to build from [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE", requires = "name")]
    file: Option<PathBuf>,
    /// What the template is called, and the tag that the build gets
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(super) name: Option<String>,
    /// Another tag that the build gets
    #[arg(long, value_name = "TAG", requires = "name")]
    tag: Vec<String>,
    /// Cores of its sandboxes
    #[arg(long, value_name = "N", requires = "name", value_parser = clap::value_parser!(u64).range(1..))]
    cpu: Option<u64>,
    /// Memory of its sandboxes
    #[arg(long, value_name = "MIB", requires = "name", value_parser = clap::value_parser!(u64).range(1..))]
    memory: Option<u64>,
    /// What is started in every sandbox [default: the Dockerfile's ENTRYPOINT and CMD]
    #[arg(long, value_name = "COMMAND", requires = "name")]
    start: Option<String>,
    /// What succeeds once a sandbox is ready
    #[arg(long, value_name = "COMMAND", requires = "name")]
    ready: Option<String>,
    /// Value of an ARG of the Dockerfile
    #[arg(long, value_name = "NAME=VALUE", requires = "name", value_parser = pairs::parse)]
    build_arg: Vec<(String, String)>,
    /// Do every step, though an earlier build did it
    #[arg(long, requires = "name")]
    no_cache: bool,
    /// Who asks the registry for the image of FROM
    #[arg(long, value_name = "USER", requires = "registry_password_stdin")]
    registry_user: Option<String>,
    /// Read that user's password from standard input
    #[arg(long, requires = "registry_user", requires = "name")]
    registry_password_stdin: bool,
}

/// Builds, and follows the build to its end.
///
/// # Errors
/// There is no server, or something cannot be read. What is wrong with the Dockerfile is told, and
/// is no error of ours.
pub(crate) async fn run(
    args: DockerArgs,
    context: Option<&Path>,
    config: &Config,
) -> anyhow::Result<ExitCode> {
    let files = Files::of(args.file.as_deref(), context);
    let source = files.source()?;
    let plan = match source.and_then(|source| Ok((parse(&source, &args.build_arg)?, source))) {
        Ok(plan) => plan,
        Err(error) => return failed(&error.to_string()),
    };
    let (plan, source) = plan;
    for note in &plan.notes {
        eprintln!("{}:{}: note: {}", files.dockerfile.display(), note.line, note.text);
    }
    let api = Api::find(config)?;
    let look = Look::of_terminal(config.term.as_deref(), config.colour);
    let order = Order { api: &api, args: &args, plan: &plan, source: &source, look };
    let context = Context::open(&files.context, Some(&files.dockerfile));
    let packed = match context.and_then(|context| pack(&context, &plan)) {
        Ok(packed) => packed,
        Err(ContextError::Asked(fault)) => return failed(&source.error(&fault).to_string()),
        Err(error) => return Err(error.into()),
    };
    order.build(packed).await
}

fn failed(text: &str) -> anyhow::Result<ExitCode> {
    eprintln!("{}", output::printable(text));
    Ok(ExitCode::from(FAILED))
}

/// Where the Dockerfile and its context are.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    dockerfile: PathBuf,
    context: PathBuf,
}

impl Files {
    /// The context is the Dockerfile's folder where none is named, and the other way round.
    fn of(dockerfile: Option<&Path>, context: Option<&Path>) -> Self {
        let here = || PathBuf::from(".");
        let folder = |path: &Path| match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => here(),
        };
        match (dockerfile, context) {
            (Some(dockerfile), Some(context)) => {
                Self { dockerfile: dockerfile.to_owned(), context: context.to_owned() }
            }
            (Some(dockerfile), None) => {
                Self { dockerfile: dockerfile.to_owned(), context: folder(dockerfile) }
            }
            (None, context) => {
                let context = context.map_or_else(here, Path::to_owned);
                Self { dockerfile: context.join(DOCKERFILE), context }
            }
        }
    }

    fn source(&self) -> anyhow::Result<Result<Source, super::dockerfile::DockerfileError>> {
        let name = self.dockerfile.display().to_string();
        let unread = || format!("the Dockerfile {name} cannot be read: name another with -f FILE");
        let file = File::open(&self.dockerfile).with_context(unread)?;
        let mut bytes = Vec::new();
        // One byte more, to see that it is too large.
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).with_context(unread)?;
        Ok(Source::new(&name, &bytes))
    }
}

/// The archives of all COPY steps, by the index of the step.
pub(super) fn pack(
    context: &Context,
    plan: &Plan,
) -> Result<BTreeMap<usize, Packed>, ContextError> {
    let copies = plan.steps.iter().enumerate().filter_map(|(index, step)| match &step.action {
        Action::Copy(copy) => Some((index, copy, step.place.at)),
        Action::Run(_) | Action::Workdir(_) | Action::User(_) | Action::Env(_) => None,
    });
    let packed = copies.map(|(index, copy, at)| match context.pack(copy) {
        Ok(packed) => Ok((index, packed)),
        // What is about the whole instruction stands at its beginning.
        Err(ContextError::Asked(mut fault)) => {
            fault.at = if fault.at == 0 { at } else { fault.at };
            Err(ContextError::Asked(fault))
        }
        Err(error) => Err(error),
    });
    packed.collect()
}

struct Order<'a> {
    api: &'a Api,
    args: &'a DockerArgs,
    plan: &'a Plan,
    source: &'a Source,
    look: Look,
}

impl Order<'_> {
    async fn build(&self, packed: BTreeMap<usize, Packed>) -> anyhow::Result<ExitCode> {
        let wanted = NewTemplateBuild {
            name: self.args.name.clone(),
            tags: Some(self.args.tag.clone()).filter(|tags| !tags.is_empty()),
            cpu_count: self.args.cpu,
            memory_mb: self.args.memory,
            ..NewTemplateBuild::default()
        };
        let password = match self.args.registry_password_stdin {
            true => Some(secret::value::read(None)?),
            false => None,
        };
        let login = self.args.registry_user.clone().zip(password);
        let requested: RequestedTemplateBuild = self.api.post("/v3/templates", &wanted).await?;
        let mut files = BTreeMap::new();
        for (index, packed) in packed {
            files.insert(index, (packed.hash.clone(), packed.source.clone()));
            self.upload(&requested.template_id, packed).await?;
        }
        let build = BuildPath {
            template_id: requested.template_id.clone(),
            build_id: requested.build_id.clone(),
        };
        let start = self.start(
            &files,
            login.map(|(username, password)| ImageRegistry::Registry { username, password }),
        );
        let path = format!("/v2/templates/{}/builds/{}", build.template_id, build.build_id);
        // From here on Ctrl-C cancels the build, and does not merely leave it.
        let interrupt = Interrupt::listen()?;
        self.api.tell_with(&path, &start).await?;
        let mut printer = Printer::new(titles(self.plan), self.look);
        match follow(self.api, &build, &mut printer, &interrupt).await? {
            Ending::Ready => {
                let name = requested.names.first().or(self.args.name.as_ref());
                let name = name.map_or(build.template_id.as_str(), String::as_str);
                let tags = requested.tags.join(", ");
                output::line(&format!("template {name} ({tags}) is build {}", build.build_id))?;
                Ok(ExitCode::SUCCESS)
            }
            Ending::Failed { message, step } => failed(&self.failure(&message, step.as_deref())),
            Ending::Cancelled(code) => {
                eprintln!("the build is cancelled");
                Ok(ExitCode::from(code))
            }
        }
    }

    async fn upload(&self, template_id: &str, packed: Packed) -> anyhow::Result<()> {
        let path = format!("/templates/{template_id}/files/{}", packed.hash);
        let files: TemplateFiles = self.api.get(&path).await?;
        let Some(url) = files.url.filter(|_url| !files.present) else { return Ok(()) };
        eprintln!("uploading {} KiB of the context", packed.length.div_ceil(1024));
        self.api.upload(&url, packed.length, file_body(packed.archive)).await?;
        Ok(())
    }

    fn start(
        &self,
        files: &BTreeMap<usize, (String, String)>,
        registry: Option<ImageRegistry>,
    ) -> StartTemplateBuild {
        let (from_image, from_template) = match &self.plan.base {
            Base::Image(image) => (Some(image.clone()), None),
            Base::Template(name) => (None, Some(name.clone())),
        };
        let steps = self.plan.steps.iter().enumerate();
        let steps = steps.map(|(index, step)| wire_step(step, files.get(&index)));
        StartTemplateBuild {
            from_image,
            from_template,
            from_image_registry: registry,
            start_cmd: self.args.start.clone().or_else(|| self.plan.start.clone()),
            ready_cmd: self.args.ready.clone(),
            force: self.args.no_cache.then_some(true),
            steps: Some(steps.collect()),
        }
    }

    /// Why a build failed, at the line that says what failed.
    fn failure(&self, message: &str, step: Option<&str>) -> String {
        let number = step.and_then(|step| step.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        match (index.and_then(|index| self.plan.steps.get(index)), step) {
            (Some(step), _) => {
                let why = self.without_command(message, step);
                self.source.mark(step.place.at, format!("this step failed: {why}")).to_string()
            }
            (None, Some("base")) => {
                let why = format!("the image cannot be used: {message}");
                self.source.mark(self.plan.from.at, why).to_string()
            }
            (None, _) => format!("courier: the build failed: {message}"),
        }
    }

    /// The command is in the line that is shown; in the message it is what was made of it.
    fn without_command<'m>(&self, message: &'m str, step: &PlannedStep) -> &'m str {
        let Action::Run(command) = &step.action else { return message };
        let begin = format!("failed to run command '{command}': ");
        message.strip_prefix(begin.as_str()).unwrap_or(message)
    }
}

/// What steps are called: those that no line stands for by what they do.
pub(super) fn titles(plan: &Plan) -> BTreeMap<String, String> {
    let all = plan.steps.len();
    let from = &plan.from;
    let base = ("base".to_owned(), format!("{} (line {})", from.text, from.line));
    let steps = plan.steps.iter().enumerate().map(|(index, step)| {
        let number = index + 1;
        let title = match (&step.action, step.place.at == from.at) {
            (Action::User(name), true) => format!("[{number}/{all}] USER {name}"),
            (Action::Workdir(path), true) => format!("[{number}/{all}] WORKDIR {path}"),
            _ => format!("[{number}/{all}] {} (line {})", step.place.text, step.place.line),
        };
        (number.to_string(), title)
    });
    std::iter::once(base).chain(steps).collect()
}

fn wire_step(step: &PlannedStep, files: Option<&(String, String)>) -> TemplateStep {
    let text = |text: &str| text.to_owned();
    let (kind, args) = match &step.action {
        Action::Run(command) => ("RUN", vec![command.clone()]),
        Action::Workdir(path) => ("WORKDIR", vec![path.clone()]),
        Action::User(name) => ("USER", vec![name.clone()]),
        Action::Env(pairs) => {
            ("ENV", pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect())
        }
        Action::Copy(Copy { destination, owner, mode, .. }) => {
            let source = files.map_or_else(|| text("."), |(_hash, source)| source.clone());
            let owner = owner.clone().unwrap_or_default();
            let mode = mode.map_or_else(String::new, |mode| format!("{mode:04o}"));
            ("COPY", vec![source, destination.clone(), owner, mode])
        }
    };
    TemplateStep {
        kind: text(kind),
        args: Some(args),
        files_hash: files.map(|(hash, _source)| hash.clone()),
        force: None,
    }
}

/// A file as the body of a request, read as it goes.
pub(super) fn file_body(file: File) -> Body {
    let chunks = ReaderStream::new(tokio::fs::File::from_std(file));
    StreamBody::new(chunks.map_ok(Frame::<Bytes>::data).map_err(Into::into)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_and_dockerfile_stand_for_each_other() {
        let of = |file: Option<&str>, context: Option<&str>| {
            let files = Files::of(file.map(Path::new), context.map(Path::new));
            (files.dockerfile.display().to_string(), files.context.display().to_string())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of(None, None), pair("./Dockerfile", "."));
        assert_eq!(of(None, Some("a")), pair("a/Dockerfile", "a"));
        assert_eq!(of(Some("x/D"), None), pair("x/D", "x"));
        assert_eq!(of(Some("D"), None), pair("D", "."));
        assert_eq!(of(Some("x/D"), Some("y")), pair("x/D", "y"));
    }

    fn order_of<'a>(parts: &'a (Api, DockerArgs, Plan, Source)) -> Order<'a> {
        let (api, args, plan, source) = parts;
        Order { api, args, plan, source, look: Look::Plain }
    }

    fn parts(text: &str) -> (Api, DockerArgs, Plan, Source) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: DockerArgs,
        }
        let line = ["x", "--name", "a:b", "--ready", "true", "--no-cache"];
        let args = <Line as clap::Parser>::parse_from(line).args;
        let source = Source::new("Dockerfile", text.as_bytes()).unwrap();
        let plan = parse(&source, &[("A".to_owned(), "1".to_owned())]).unwrap();
        (Api::new("http://127.0.0.1:1", "k").unwrap(), args, plan, source)
    }

    const TEXT: &str =
        "FROM python:3\nARG A\nENV B=c D=e\nCOPY --chmod=755 a /x/\nRUN make\nCMD [\"a b\"]\n";

    #[test]
    fn a_plan_becomes_the_body_that_the_sdks_send() {
        let parts = parts(TEXT);
        let files = [(3, ("0".repeat(64), "a".to_owned()))].into();
        let password = courier_protocol::secret::GivenSecret::new("p".to_owned());
        let registry = ImageRegistry::Registry { username: "u".to_owned(), password };
        let body = order_of(&parts).start(&files, Some(registry));
        insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    }

    #[test]
    fn a_failure_is_shown_at_its_line_without_the_command_that_was_made_of_it() {
        let parts = parts(TEXT);
        let order = order_of(&parts);
        let told = [
            order.failure("failed to run command 'export A=1\nmake': exit status 2", Some("5")),
            order.failure("manifest unknown", Some("base")),
            order.failure("it did not become ready", Some("finalize")),
            order.failure("the server was stopped", None),
            order.failure("odd", Some("99")),
        ];
        insta::assert_snapshot!(told.join("\n\n"));
    }

    #[test]
    fn every_step_has_a_title() {
        let parts = parts(TEXT);
        let titles = titles(&parts.2);
        let lines: Vec<String> =
            titles.iter().map(|(stage, title)| format!("{stage}: {title}")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
