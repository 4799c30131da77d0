//! Builds, tags and uploads: what is final stays, tags move in order, old databases keep their
//! templates.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

use courier_store::{
    BuildBounds, BuildKey, BuildLogRow, BuildReason, BuildState, DEFAULT_TAG, FinishedBuild,
    LogDirection, LogLevelRow, NewBuild, ProjectRow, StartedBuild, Store, StoreError, UploadBounds,
    UploadRow,
};
use courier_types::{BuildConfig, BuildId, Limits, ProjectId, SandboxId, TemplateId, Timestamp};
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: Store,
    project: ProjectRow,
}

const BOUNDS: BuildBounds = BuildBounds { builds_max: 2, templates_max: 2, tags_max: 3 };

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn id(number: u8) -> BuildId {
    BuildId::from_random([number; 16])
}

fn started() -> StartedBuild {
    let sandbox_id = SandboxId::from_random([1; 20]);
    StartedBuild { sandbox_id, secret_names: vec!["preset.a".parse().unwrap()], egress: None }
}

fn ready() -> FinishedBuild {
    let config = BuildConfig { workdir: "/srv".to_owned(), ..BuildConfig::default() };
    FinishedBuild::Ready { config, size_bytes: 7, image_digest: Some("sha256:00".to_owned()) }
}

fn failed(message: &str) -> FinishedBuild {
    let step = Some("2".to_owned());
    FinishedBuild::Failed(BuildReason { message: message.to_owned(), step })
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("courier.db")).await.unwrap();
        let project = ProjectRow {
            id: ProjectId::from_random([1; 20]),
            slug: "default".to_owned(),
            created_at: at(1),
        };
        let project = store.ensure_project(&project).await.unwrap();
        Self { folder, store, project }
    }

    fn build(&self, number: u8, name: &str, tags: &[&str]) -> NewBuild {
        NewBuild {
            id: id(number),
            reference: id(number).to_string(),
            project_id: self.project.id.clone(),
            name: name.to_owned(),
            template_id: TemplateId::from_random([number; 20]),
            limits: Limits::default(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    async fn request(&self, number: u8, name: &str) -> TemplateId {
        let new = self.build(number, name, &[DEFAULT_TAG]);
        let time = at(i64::from(number));
        self.store.request_build(&new, &BOUNDS, time).await.unwrap().template_id
    }

    async fn start(&self, number: u8) -> bool {
        self.store.start_build(&id(number), &started(), 10, at(50)).await.unwrap()
    }

    async fn state(&self, number: u8) -> BuildState {
        self.store.find_build(&id(number)).await.unwrap().unwrap().state
    }

    async fn tagged(&self, template: &TemplateId) -> Option<BuildId> {
        let key = BuildKey::Tag(DEFAULT_TAG);
        self.store.find_ready_build(template, &key).await.unwrap().map(|build| build.id)
    }
}

#[tokio::test]
async fn a_build_comes_to_one_end_and_stays_there_also_after_a_restart() {
    let world = World::new().await;
    let template = world.request(1, "mine").await;
    assert!(!world.store.finish_build(&id(1), &ready(), at(9)).await.unwrap(), "it waits");
    assert!(world.start(1).await && !world.start(1).await);
    let claims = world.store.secret_claims(&started().sandbox_id).await.unwrap().unwrap();
    assert_eq!((claims.project_id, claims.secret_names.len()), (world.project.id.clone(), 1));
    assert!(world.store.finish_build(&id(1), &ready(), at(60)).await.unwrap());
    assert!(!world.store.finish_build(&id(1), &failed("late"), at(61)).await.unwrap());
    assert_eq!(world.store.secret_claims(&started().sandbox_id).await.unwrap(), None);
    world.store.close().await;
    let store = Store::open(&world.folder.path().join("courier.db")).await.unwrap();
    let row = store.find_build(&id(1)).await.unwrap().unwrap();
    assert_eq!((row.state, row.config.workdir.as_str()), (BuildState::Ready, "/srv"));
    assert_eq!((row.size_bytes, row.image_digest.as_deref()), (Some(7), Some("sha256:00")));
    assert_eq!((row.created_at, row.finished_at), (at(1), Some(at(60))));
    assert_eq!(store.fail_builds_under_way("gone", at(70)).await.unwrap(), 0);
    let world = World { store, ..world };
    assert_eq!(world.tagged(&template).await, Some(id(1)));
}

#[tokio::test]
async fn a_tag_moves_to_what_was_asked_for_last_whichever_ends_first() {
    let world = World::new().await;
    let template = world.request(1, "mine").await;
    assert_eq!(world.request(2, "mine").await, template);
    assert!(world.start(1).await && world.start(2).await);
    assert_eq!(world.tagged(&template).await, None);
    assert!(world.store.finish_build(&id(2), &ready(), at(60)).await.unwrap());
    assert!(world.store.finish_build(&id(1), &ready(), at(61)).await.unwrap());
    assert_eq!(world.tagged(&template).await, Some(id(2)));
    // What somebody says counts, whatever is older.
    let back = (&template, &id(1));
    assert!(world.store.tag_build(back, &["default".to_owned()], 3, at(62)).await.unwrap());
    assert_eq!(world.tagged(&template).await, Some(id(1)));
    let foreign = (&TemplateId::from_random([9; 20]), &id(1));
    assert!(!world.store.tag_build(foreign, &["a".to_owned()], 3, at(63)).await.unwrap());
    let many: Vec<String> = (0..3).map(|number| format!("t{number}")).collect();
    let refused = world.store.tag_build(back, &many, 3, at(64)).await;
    assert!(matches!(refused, Err(StoreError::TooManyTags { max: 3 })));
    assert_eq!(world.store.list_tags(&template).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_being_made_fails_at_a_start_and_what_waits_too_long_as_well() {
    let world = World::new().await;
    world.request(1, "mine").await;
    world.request(2, "mine").await;
    assert!(world.start(2).await);
    assert_eq!(world.store.fail_builds_under_way("gone", at(70)).await.unwrap(), 1);
    let reason = BuildReason { message: "gone".to_owned(), step: None };
    assert_eq!(world.state(2).await, BuildState::Error(reason));
    assert_eq!(world.state(1).await, BuildState::Waiting);
    assert_eq!(world.store.expire_waiting_builds(at(1), "late", at(71)).await.unwrap(), 0);
    assert_eq!(world.store.expire_waiting_builds(at(2), "late", at(71)).await.unwrap(), 1);
    assert!(world.state(1).await.is_final());
}

#[tokio::test]
async fn a_project_has_so_many_builds_and_templates() {
    let world = World::new().await;
    for number in 1..=3 {
        world.request(number, "mine").await;
    }
    assert!(world.state(1).await.is_final(), "the oldest that waited made room");
    assert_eq!(world.state(3).await, BuildState::Waiting);
    let start = async |number: u8| world.store.start_build(&id(number), &started(), 1, at(5)).await;
    assert!(start(2).await.unwrap());
    assert!(matches!(start(3).await, Err(StoreError::TooManyBuilds { max: 1 })));
    assert_eq!(world.state(3).await, BuildState::Waiting);
    world.request(4, "second").await;
    let third = world.build(5, "third", &[]);
    let refused = world.store.request_build(&third, &BOUNDS, at(9)).await;
    assert!(matches!(refused, Err(StoreError::TooManyTemplates { max: 2 })));
    let many = world.build(6, "mine", &["a", "b", "c", "d"]);
    let refused = world.store.request_build(&many, &BOUNDS, at(9)).await;
    assert!(matches!(refused, Err(StoreError::TooManyTags { max: 3 })));
    assert_eq!(world.store.find_build(&id(6)).await.unwrap(), None);
}

#[tokio::test]
async fn superseded_builds_are_those_without_a_tag_beyond_the_newest() {
    let world = World::new().await;
    let mut template = None;
    for number in 1..=4 {
        template = Some(world.request(number, "mine").await);
        assert!(world.start(number).await);
        assert!(world.store.finish_build(&id(number), &ready(), at(60)).await.unwrap());
    }
    let superseded = world.store.superseded_builds(1).await.unwrap();
    let ids: Vec<BuildId> = superseded.into_iter().map(|build| build.id).collect();
    assert_eq!(ids, [id(1), id(2)]);
    assert!(world.store.delete_build(&id(1)).await.unwrap());
    assert!(!world.store.delete_build(&id(4)).await.unwrap(), "it has a tag");
    let deleted = world.store.delete_template(&template.unwrap()).await.unwrap();
    assert_eq!(deleted.len(), 3);
    assert_eq!(world.store.build_references().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_log_is_paged_by_number_and_by_time() {
    let world = World::new().await;
    world.request(1, "mine").await;
    let row = |number: i64, level, step: &str| BuildLogRow {
        at: at(number),
        level,
        step: step.to_owned(),
        message: format!("{number}\u{0}"),
    };
    let rows = [
        row(1, LogLevelRow::Debug, "base"),
        row(2, LogLevelRow::Info, "1"),
        row(3, LogLevelRow::Error, "1"),
    ];
    world.store.append_build_log(&id(1), 0, &rows[..1]).await.unwrap();
    world.store.append_build_log(&id(1), 1, &rows[1..]).await.unwrap();
    assert!(world.store.append_build_log(&id(1), 2, &rows[..1]).await.is_err(), "it is taken");
    let page = async |level, from| world.store.build_log(&id(1), level, from).await.unwrap();
    assert_eq!(page(LogLevelRow::Debug, (0, 2)).await, rows[..2]);
    assert_eq!(page(LogLevelRow::Debug, (2, 2)).await, rows[2..]);
    assert_eq!(page(LogLevelRow::Info, (1, 9)).await, rows[2..]);
    assert!(page(LogLevelRow::Debug, (3, 9)).await.is_empty());
    let around = async |from| {
        world.store.build_log_around(&id(1), LogLevelRow::Debug, from, 2).await.unwrap()
    };
    assert_eq!(around((LogDirection::Forward, Some(at(2)))).await, rows[1..]);
    let backward = around((LogDirection::Backward, Some(at(2)))).await;
    assert_eq!(backward, [rows[1].clone(), rows[0].clone()]);
    let step = world.store.build_log_of_step(&id(1), "1", 1).await.unwrap();
    assert_eq!(step, rows[2..]);
}

#[tokio::test]
async fn archives_that_were_not_used_for_longest_make_room() {
    let world = World::new().await;
    let upload = |hash: &str, used: i64| UploadRow {
        project_id: world.project.id.clone(),
        hash: hash.to_owned(),
        digest: format!("digest of {hash}"),
        size_bytes: 40,
        used_at: at(used),
    };
    let bounds = UploadBounds { bytes: 100, count: 2 };
    world.store.put_upload(&upload("a", 1), bounds).await.unwrap();
    world.store.put_upload(&upload("b", 2), bounds).await.unwrap();
    let used = async |hash: &str, now| {
        world.store.use_upload(&world.project.id, hash, at(now)).await.unwrap()
    };
    assert_eq!(used("a", 3).await, Some(upload("a", 3)));
    world.store.put_upload(&upload("c", 4), bounds).await.unwrap();
    assert_eq!(used("b", 5).await, None);
    assert!(world.store.has_upload(world.project.id.as_str(), "digest of a").await.unwrap());
    assert_eq!(world.store.expire_uploads(at(4)).await.unwrap(), 1);
    assert_eq!(used("a", 6).await, None);
    assert!(used("c", 6).await.is_some());
    let one = UploadBounds { bytes: 100, count: 1 };
    world.store.put_upload(&upload("d", 7), one).await.unwrap();
    assert_eq!(used("c", 8).await, None);
}
