//! The store: what is written stays, what is stale changes nothing, what is private is not there.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

use std::collections::BTreeMap;

use courier_store::{
    AliveLimit, ApiKeyRow, BuildKey, BuildRow, DEFAULT_TAG, Ended, Idempotency, Insertion, KeyHash,
    NewGuestToken, NewSandboxRow, NewTemplate, PageOrder, PagePosition, ProjectRow, Purpose,
    Sealed, SecretKey, SecretRow, SecretUpdate, StateReport, Store, StoreError, StoredSpec,
    TokenHash,
};
use courier_types::{
    AccessToken, ApiKeyId, BuildConfig, BuildId, DesiredState, EndReason, Generation, Limits,
    ObservedState, ProjectId, SandboxId, SecretId, TemplateId, Timestamp, Usage,
};
use tempfile::TempDir;

struct World {
    folder: TempDir,
    store: Store,
    project: ProjectRow,
}

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn sealed(text: &str) -> Sealed {
    Sealed::new(text.to_owned())
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

    async fn reopen(self) -> Self {
        self.store.close().await;
        let store = Store::open(&self.folder.path().join("courier.db")).await.unwrap();
        Self { store, ..self }
    }

    fn row(&self, number: u8) -> NewSandboxRow {
        NewSandboxRow {
            project_id: self.project.id.clone(),
            purpose: Purpose::Execution,
            template_id: TemplateId::from_random([1; 20]),
            template_name: Some("base".to_owned()),
            metadata: BTreeMap::from([("k\"'".to_owned(), "v\u{0}ü".to_owned())]),
            created_at: at(i64::from(number)),
            spec: StoredSpec {
                id: SandboxId::from_random([number; 20]),
                build: "base-1".to_owned(),
                limits: Limits::default(),
                deadline: at(1_000),
                access_token: Some(AccessToken::new("token".to_owned())),
                template: "base:default".to_owned(),
            },
            sealed: sealed("environment"),
            secret_names: vec!["openai".parse().unwrap()],
            tokens: Vec::new(),
            volumes: Vec::new(),
        }
    }

    async fn insert(&self, number: u8) -> SandboxId {
        let row = self.row(number);
        self.store.insert_sandbox(&row, AliveLimit(100), None).await.unwrap();
        row.spec.id
    }

    async fn observed(&self, id: &SandboxId) -> ObservedState {
        self.store.find_sandbox(id).await.unwrap().unwrap().observed
    }
}

const fn report(generation: u64, state: ObservedState) -> StateReport {
    StateReport { generation: Generation(generation), state, at: at(50), usage: None, detail: None }
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_written_also_after_a_restart() {
    let world = World::new().await;
    let id = world.insert(1).await;
    let world = world.reopen().await;
    let (row, new) = (world.store.find_sandbox(&id).await.unwrap().unwrap(), world.row(1));
    assert_eq!(row.metadata, new.metadata);
    assert_eq!(row.purpose, Purpose::Execution);
    assert_eq!(world.store.find_sealed(&id).await.unwrap(), Some(new.sealed));
    assert_eq!(row.spec.limits, new.spec.limits);
    assert_eq!(row.spec.deadline, new.spec.deadline);
    assert_eq!(row.spec.access_token, new.spec.access_token);
    assert_eq!(row.spec.template, "base:default");
    assert_eq!((row.desired, row.observed), (DesiredState::Running, ObservedState::Creating));
    assert_eq!((row.started_at, row.ended_at, row.usage), (None, None, None));
}

#[tokio::test]
async fn a_stale_report_changes_nothing() {
    let world = World::new().await;
    let id = world.insert(1).await;
    assert!(world.store.apply_report(&id, &report(5, ObservedState::Running)).await.unwrap());
    assert!(!world.store.apply_report(&id, &report(4, ObservedState::Killing)).await.unwrap());
    assert_eq!(world.observed(&id).await, ObservedState::Running);
    // A late word about the beginning does not take a sandbox back there.
    assert!(world.store.apply_report(&id, &report(6, ObservedState::Creating)).await.unwrap());
    assert_eq!(world.observed(&id).await, ObservedState::Running);
    let unknown = SandboxId::from_random([9; 20]);
    assert!(!world.store.apply_report(&unknown, &report(1, ObservedState::Running)).await.unwrap());
}

#[tokio::test]
async fn a_desired_kill_shows_as_killing_until_the_end() {
    let world = World::new().await;
    let id = world.insert(1).await;
    assert!(world.store.mark_killing(&id).await.unwrap());
    assert!(!world.store.mark_running(&id, at(5)).await.unwrap());
    world.store.apply_report(&id, &report(5, ObservedState::Running)).await.unwrap();
    assert_eq!(world.observed(&id).await, ObservedState::Killing);
    let end = ObservedState::ended(EndReason::Memory);
    assert!(world.store.apply_report(&id, &report(6, end)).await.unwrap());
    assert!(!world.store.mark_killing(&id).await.unwrap());
    assert_eq!(world.observed(&id).await, end);
    assert!(!world.store.set_end_at(&id, at(7)).await.unwrap());
}

#[tokio::test]
async fn a_terminal_report_counts_though_its_number_is_low_and_frees_the_environment() {
    let world = World::new().await;
    let id = world.insert(1).await;
    world.store.apply_report(&id, &report(9, ObservedState::Running)).await.unwrap();
    let usage = Some(Usage { cpu_micros: 7, ..Usage::default() });
    let end = StateReport { usage, ..report(1, ObservedState::ended(EndReason::Lost)) };
    assert!(world.store.apply_report(&id, &end).await.unwrap());
    let row = world.store.find_sandbox(&id).await.unwrap().unwrap();
    assert_eq!((row.end_reason(), row.usage), (Some(EndReason::Lost), usage));
    assert_eq!(world.store.find_sealed(&id).await.unwrap(), None);
    assert_eq!(world.store.secret_claims(&id).await.unwrap(), None);
}

#[tokio::test]
async fn the_limit_counts_only_what_is_alive_and_only_of_one_project() {
    let world = World::new().await;
    let id = world.insert(1).await;
    let second = world.row(2);
    let refused = world.store.insert_sandbox(&second, AliveLimit(1), None).await;
    assert!(matches!(refused, Err(StoreError::TooManySandboxes { alive: 1 })));
    let ended = Ended { reason: EndReason::Requested, at: at(5), detail: None, usage: None };
    assert!(world.store.mark_ended(&id, &ended).await.unwrap());
    let inserted = world.store.insert_sandbox(&second, AliveLimit(1), None).await.unwrap();
    assert_eq!(inserted, Insertion::Inserted);
}

#[tokio::test]
async fn an_idempotency_key_replays_expires_and_is_freed_by_a_failed_create() {
    let world = World::new().await;
    let key = |hash: &str, valid_since| Idempotency {
        key: "key".to_owned(),
        request_hash: hash.to_owned(),
        valid_since,
    };
    let (first, second) = (world.row(10), world.row(20));
    let limit = AliveLimit(100);
    let insert = async |row: &NewSandboxRow, key: Idempotency| {
        world.store.insert_sandbox(row, limit, Some(&key)).await
    };
    assert_eq!(insert(&first, key("a", at(0))).await.unwrap(), Insertion::Inserted);
    let replayed = Insertion::Replayed(first.spec.id.clone());
    assert_eq!(insert(&second, key("a", at(0))).await.unwrap(), replayed);
    let mismatch = insert(&second, key("b", at(0))).await;
    assert!(matches!(mismatch, Err(StoreError::IdempotencyMismatch)));
    assert!(world.store.find_sandbox(&second.spec.id).await.unwrap().is_none());
    assert_eq!(insert(&second, key("b", at(11))).await.unwrap(), Insertion::Inserted);
    let ended = Ended { reason: EndReason::NeverStarted, at: at(30), detail: None, usage: None };
    world.store.mark_never_started(&second.spec.id, &ended).await.unwrap();
    assert_eq!(insert(&world.row(30), key("c", at(0))).await.unwrap(), Insertion::Inserted);
}

#[tokio::test]
async fn pages_go_both_ways_and_ties_are_ordered_by_id() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for number in [1, 2, 3] {
        let mut row = world.row(number);
        row.created_at = at(7);
        world.store.insert_sandbox(&row, AliveLimit(100), None).await.unwrap();
        ids.push(row.spec.id);
    }
    ids.sort();
    for order in [PageOrder::Ascending, PageOrder::Descending] {
        let mut seen = Vec::new();
        let mut after: Option<PagePosition> = None;
        loop {
            let page = world
                .store
                .page_sandboxes(&world.project.id, order, after.as_ref(), 1)
                .await
                .unwrap();
            let Some(row) = page.into_iter().next() else { break };
            let (created_at, id) = (row.created_at, row.spec.id.to_string());
            after = Some(PagePosition { created_at, id });
            seen.push(row.spec.id);
        }
        if order == PageOrder::Descending {
            seen.reverse();
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test]
async fn old_and_surplus_ended_rows_go_and_living_ones_stay() {
    let world = World::new().await;
    for number in 1..=5 {
        let id = world.insert(number).await;
        if number < 5 {
            let at = at(i64::from(number) * 100);
            let ended = Ended { reason: EndReason::Timeout, at, detail: None, usage: None };
            world.store.mark_ended(&id, &ended).await.unwrap();
        }
    }
    // The first is too old; of the other three, one is more than two.
    assert_eq!(world.store.prune(at(150), 2, at(0), at(0)).await.unwrap(), 2);
    let left = world
        .store
        .page_sandboxes(&world.project.id, PageOrder::Ascending, None, 100)
        .await
        .unwrap();
    let left: Vec<i64> = left.iter().map(|row| row.created_at.as_micros()).collect();
    assert_eq!(left, [3, 4, 5]);
}

#[tokio::test]
async fn a_key_is_known_by_its_hash_only_and_not_after_its_revocation() {
    let world = World::new().await;
    let key = ApiKeyRow {
        id: ApiKeyId::from_random([1; 12]),
        project_id: world.project.id.clone(),
        name: "first".to_owned(),
        created_at: at(1),
        revoked_at: None,
    };
    let hash = KeyHash::new([7; 32]);
    world.store.insert_api_key(&key, &hash).await.unwrap();
    let found = world.store.project_of_key(&hash).await.unwrap();
    assert_eq!(found.as_ref(), Some(&world.project));
    assert_eq!(world.store.project_of_key(&KeyHash::new([8; 32])).await.unwrap(), None);
    assert!(world.store.revoke_api_key(&key.id, at(2)).await.unwrap());
    assert_eq!(world.store.project_of_key(&hash).await.unwrap(), None);
    let listed = world.store.list_api_keys().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(format!("{hash:?}"), "KeyHash(…)");
}

fn template(number: u8, names: &[&str], build: &str) -> NewTemplate {
    NewTemplate {
        id: TemplateId::from_random([number; 20]),
        project_id: None,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        build: build.to_owned(),
        build_id: BuildId::from_hash(std::array::from_fn(|at| {
            build.as_bytes().get(at).copied().unwrap_or_default()
        })),
        config: BuildConfig::default(),
        limits: Limits::default(),
        egress: None,
    }
}

/// The build that a template's sandboxes are made from.
async fn newest(world: &World, template: &TemplateId) -> BuildRow {
    let found = world.store.find_ready_build(template, &BuildKey::Tag(DEFAULT_TAG)).await;
    found.unwrap().unwrap()
}

#[tokio::test]
async fn a_template_of_the_same_name_gets_a_new_build_and_keeps_its_id() {
    let world = World::new().await;
    let first = template(1, &["base", "other"], "base-1");
    let id = world.store.register_template(&first, at(1)).await.unwrap();
    assert_eq!(id, first.id);
    let again = template(2, &["base", "third"], "base-2");
    assert_eq!(world.store.register_template(&again, at(2)).await.unwrap(), id);
    assert_eq!(world.store.register_template(&again, at(3)).await.unwrap(), id);
    let find = async |name: &str| world.store.find_template(&world.project.id, name).await.unwrap();
    let found = find("third").await.unwrap();
    assert_eq!((newest(&world, &id).await.reference.as_str(), found.build_count), ("base-2", 2));
    assert_eq!((found.created_at, found.updated_at), (at(1), at(2)));
    assert_eq!(found.names, ["base", "third"]);
    assert_eq!(find("other").await, None);
    assert_eq!(find(id.as_str()).await, Some(found));
    let stolen = template(3, &["new", "base"], "x");
    let refused = world.store.register_template(&stolen, at(4)).await;
    assert!(matches!(refused, Err(StoreError::NameTaken { .. })));
    assert_eq!(find("new").await, None);
}

#[tokio::test]
async fn a_template_of_another_project_is_not_found() {
    let world = World::new().await;
    let other = ProjectRow {
        id: ProjectId::from_random([2; 20]),
        slug: "other".to_owned(),
        created_at: at(1),
    };
    let other = world.store.ensure_project(&other).await.unwrap();
    let mut private = template(1, &["private"], "p-1");
    private.project_id = Some(other.id.clone());
    world.store.register_template(&private, at(1)).await.unwrap();
    assert_eq!(world.store.find_template(&world.project.id, "private").await.unwrap(), None);
    assert!(world.store.list_templates(&world.project.id).await.unwrap().is_empty());
    assert!(world.store.find_template(&other.id, "private").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_all_succeed() {
    let world = World::new().await;
    let writes = (1..=30_u8).map(|number| {
        let (store, row) = (world.store.clone(), world.row(number));
        tokio::spawn(async move { store.insert_sandbox(&row, AliveLimit(100), None).await })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await.unwrap().unwrap(), Insertion::Inserted);
    }
    assert_eq!(world.store.list_alive().await.unwrap().len(), 30);
}

#[tokio::test]
async fn a_corrupt_column_is_named_with_its_row() {
    let world = World::new().await;
    let id = world.insert(1).await;
    let path = world.folder.path().join("courier.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql("UPDATE sandboxes SET limits = '{\"memory_mib\":1}'")
        .execute(&pool)
        .await
        .unwrap();
    let error = world.store.find_sandbox(&id).await.unwrap_err().to_string();
    assert_eq!(error, format!("column limits of sandbox {id} is corrupt"));
}

impl World {
    fn secret(&self, number: u8, name: &str) -> SecretRow {
        SecretRow {
            id: SecretId::from_random([number; 20]),
            project_id: self.project.id.clone(),
            name: name.parse().unwrap(),
            version: 1,
            sealed: sealed("one"),
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            created_at: at(i64::from(number)),
            updated_at: at(i64::from(number)),
        }
    }

    /// A sandbox that holds a token for a secret until 100.
    async fn holder(&self, number: u8, secret: &SecretId) -> (SandboxId, TokenHash) {
        let hash = TokenHash::new([number; 32]);
        let token =
            NewGuestToken { hash: hash.clone(), secret: secret.clone(), expires_at: at(100) };
        let row = NewSandboxRow { tokens: vec![token], ..self.row(number) };
        self.store.insert_sandbox(&row, AliveLimit(100), None).await.unwrap();
        (row.spec.id, hash)
    }
}

#[tokio::test]
async fn a_secret_is_found_by_name_and_id_by_its_own_project_only() {
    let world = World::new().await;
    let secret = world.secret(1, "openai");
    world.store.insert_secret(&secret, 2).await.unwrap();
    let other = ProjectId::from_random([9; 20]);
    for key in [SecretKey::Id(secret.id.clone()), SecretKey::Name("OpenAI".parse().unwrap())] {
        let found = world.store.find_secret(&world.project.id, &key).await.unwrap();
        assert_eq!(found.as_ref(), Some(&secret));
        assert_eq!(world.store.find_secret(&other, &key).await.unwrap(), None);
    }
    let same = world.store.insert_secret(&world.secret(2, "openai"), 2).await.unwrap_err();
    assert!(matches!(same, StoreError::SecretExists { .. }), "{same}");
    world.store.insert_secret(&world.secret(3, "b"), 2).await.unwrap();
    let full = world.store.insert_secret(&world.secret(4, "c"), 2).await.unwrap_err();
    assert!(matches!(full, StoreError::TooManySecrets { max: 2 }), "{full}");
    let page = world.store.page_secrets(&world.project.id, None, 1).await.unwrap();
    assert_eq!(page[0].name.as_str(), "b");
    let after = PagePosition { created_at: page[0].created_at, id: page[0].id.to_string() };
    let page = world.store.page_secrets(&world.project.id, Some(&after), 5).await.unwrap();
    assert_eq!(page, [secret]);
}

#[tokio::test]
async fn a_secret_gets_a_new_value_only_over_the_one_that_was_read() {
    let world = World::new().await;
    let secret = world.secret(1, "openai");
    world.store.insert_secret(&secret, 9).await.unwrap();
    let update = SecretUpdate { replaces: 1, sealed: sealed("two"), metadata: None, at: at(50) };
    assert!(world.store.update_secret(&secret.id, &update).await.unwrap());
    assert!(!world.store.update_secret(&secret.id, &update).await.unwrap());
    let key = SecretKey::Id(secret.id.clone());
    let now = world.store.find_secret(&world.project.id, &key).await.unwrap().unwrap();
    let new = SecretRow { version: 2, sealed: sealed("two"), updated_at: at(50), ..secret };
    assert_eq!(now, new);
}

#[tokio::test]
async fn a_token_counts_while_it_its_sandbox_and_its_secret_live() {
    let world = World::new().await;
    let secret = world.secret(1, "openai");
    world.store.insert_secret(&secret, 9).await.unwrap();
    let (first, hash) = world.holder(1, &secret.id).await;
    let (second, other) = world.holder(2, &secret.id).await;
    let live = async |hash: &TokenHash, now| {
        world.store.find_guest_token(hash, at(now)).await.unwrap().map(|token| token.sandbox)
    };
    assert_eq!(live(&hash, 99).await, Some(first.clone()));
    assert_eq!(live(&hash, 100).await, None, "its time is up");
    assert_eq!(live(&TokenHash::new([7; 32]), 1).await, None, "nobody knows it");
    world.store.mark_killing(&first).await.unwrap();
    assert_eq!(live(&hash, 1).await, None, "its sandbox is going");
    assert_eq!(live(&other, 1).await, Some(second.clone()));
    assert!(world.store.delete_secret(&secret.id).await.unwrap());
    assert_eq!(live(&other, 1).await, None, "its secret is gone");
    // Another secret of that name is another secret.
    world.store.insert_secret(&world.secret(3, "openai"), 9).await.unwrap();
    assert_eq!(live(&other, 1).await, None);
    assert_eq!(format!("{hash:?}"), "TokenHash(…)");
}

#[tokio::test]
async fn a_sandbox_is_not_made_with_a_token_for_a_secret_that_is_gone_or_foreign() {
    let world = World::new().await;
    let other = ProjectRow {
        id: ProjectId::from_random([9; 20]),
        slug: "other".to_owned(),
        created_at: at(1),
    };
    let other = world.store.ensure_project(&other).await.unwrap();
    let foreign = SecretRow { project_id: other.id, ..world.secret(1, "a") };
    world.store.insert_secret(&foreign, 9).await.unwrap();
    for secret in [foreign.id, SecretId::from_random([2; 20])] {
        let hash = TokenHash::new([1; 32]);
        let token = NewGuestToken { hash, secret, expires_at: at(100) };
        let row = NewSandboxRow { tokens: vec![token], ..world.row(1) };
        let error = world.store.insert_sandbox(&row, AliveLimit(9), None).await.unwrap_err();
        assert!(matches!(error, StoreError::NoSecret { .. }), "{error}");
        assert!(world.store.find_sandbox(&row.spec.id).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_replaced_network_changes_what_a_sandbox_may_claim() {
    let world = World::new().await;
    let id = world.insert(1).await;
    let claims = world.store.secret_claims(&id).await.unwrap().unwrap();
    assert_eq!(claims.secret_names, ["openai".parse().unwrap()]);
    assert!(world.store.replace_sealed(&id, &sealed("new"), &[]).await.unwrap());
    assert!(world.store.secret_claims(&id).await.unwrap().unwrap().secret_names.is_empty());
    assert_eq!(world.store.find_sealed(&id).await.unwrap(), Some(sealed("new")));
    world.store.mark_killing(&id).await.unwrap();
    assert!(!world.store.replace_sealed(&id, &sealed("late"), &[]).await.unwrap());
    assert_eq!(world.store.secret_claims(&id).await.unwrap(), None);
}

#[tokio::test]
async fn the_first_check_of_a_key_stays() {
    let world = World::new().await;
    assert_eq!(world.store.key_check().await.unwrap(), None);
    world.store.insert_key_check(&sealed("first")).await.unwrap();
    world.store.insert_key_check(&sealed("second")).await.unwrap();
    let world = world.reopen().await;
    assert_eq!(world.store.key_check().await.unwrap(), Some(sealed("first")));
}

#[tokio::test]
async fn a_template_keeps_the_policy_of_its_newest_build() {
    let world = World::new().await;
    let policy: courier_types::egress::Policy =
        serde_json::from_str(r#"{"rules":[{"allow":"api.example.com"}]}"#).unwrap();
    let bounded = NewTemplate { egress: Some(policy.clone()), ..template(1, &["a"], "a-1") };
    let id = world.store.register_template(&bounded, at(1)).await.unwrap();
    assert_eq!(newest(&world, &id).await.egress, Some(policy));
    world.store.register_template(&template(1, &["a"], "a-2"), at(2)).await.unwrap();
    assert_eq!(newest(&world, &id).await.egress, None);
}
