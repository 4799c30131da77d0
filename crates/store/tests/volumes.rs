//! Volumes in the store: who has which, and what may become of them.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test by panicking")]

use std::collections::BTreeMap;

use courier_store::{
    AliveLimit, Ended, NewSandboxRow, ProjectRow, Purpose, Sealed, Store, StoreError, StoredSpec,
    VolumeRow, VolumeState,
};
use courier_types::{EndReason, Limits, ProjectId, SandboxId, TemplateId, Timestamp, VolumeId};
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
            purpose: Purpose::Client,
            template_id: TemplateId::from_random([1; 20]),
            template_name: None,
            metadata: BTreeMap::new(),
            created_at: at(i64::from(number)),
            spec: StoredSpec {
                id: SandboxId::from_random([number; 20]),
                build: "base-1".to_owned(),
                limits: Limits::default(),
                deadline: at(1_000),
                access_token: None,
                template: "base:default".to_owned(),
            },
            sealed: sealed("environment"),
            secret_names: Vec::new(),
            tokens: Vec::new(),
            volumes: Vec::new(),
        }
    }
}

fn volume(world: &World, number: u8, name: &str) -> VolumeRow {
    VolumeRow {
        id: VolumeId::from_random([number; 20]),
        project_id: world.project.id.clone(),
        name: name.to_owned(),
        size_mib: 64,
        sealed: sealed("token"),
        state: VolumeState::Making,
        created_at: at(i64::from(number)),
    }
}

#[tokio::test]
async fn a_volume_can_be_used_between_its_making_and_its_deletion_only() {
    let world = World::new().await;
    let row = volume(&world, 1, "data");
    world.store.insert_volume(&row, 2).await.unwrap();
    assert_eq!(world.store.find_volume(&row.id).await.unwrap(), None);
    assert!(world.store.mark_volume_ready(&row.id).await.unwrap());
    assert!(!world.store.mark_volume_ready(&row.id).await.unwrap());
    let ready = VolumeRow { state: VolumeState::Ready, ..row.clone() };
    assert_eq!(world.store.find_volume(&row.id).await.unwrap(), Some(ready.clone()));
    let by_name = world.store.find_volume_by_name(&world.project.id, "data").await.unwrap();
    assert_eq!(by_name, Some(ready.clone()));
    assert_eq!(world.store.list_volumes(&world.project.id).await.unwrap(), [ready]);
    let namesake = world.store.insert_volume(&volume(&world, 2, "data"), 2).await;
    assert!(matches!(namesake, Err(StoreError::VolumeExists { .. })), "{namesake:?}");
    world.store.insert_volume(&volume(&world, 2, "more"), 2).await.unwrap();
    let surplus = world.store.insert_volume(&volume(&world, 3, "most"), 2).await;
    assert!(matches!(surplus, Err(StoreError::TooManyVolumes { max: 2 })), "{surplus:?}");
    // Forgetting is for what is not ready.
    world.store.forget_volume(&row.id).await.unwrap();
    assert!(world.store.find_volume(&row.id).await.unwrap().is_some());
    assert!(world.store.mark_volume_deleting(&row.id).await.unwrap());
    assert_eq!(world.store.find_volume(&row.id).await.unwrap(), None);
    let world = world.reopen().await;
    assert_eq!(world.store.list_all_volumes().await.unwrap().len(), 2);
    world.store.forget_volume(&row.id).await.unwrap();
    assert_eq!(world.store.list_all_volumes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_volume_that_a_sandbox_has_is_not_deleted_and_a_deleted_one_is_not_given() {
    let world = World::new().await;
    let data = volume(&world, 1, "data");
    world.store.insert_volume(&data, 9).await.unwrap();
    let path: courier_types::MountPath = "/data".parse().unwrap();
    let row = |number| NewSandboxRow {
        volumes: vec![(data.id.clone(), path.clone())],
        ..world.row(number)
    };
    let early = world.store.insert_sandbox(&row(1), AliveLimit(9), None).await;
    assert!(matches!(early, Err(StoreError::NoVolume { .. })), "{early:?}");
    world.store.mark_volume_ready(&data.id).await.unwrap();
    world.store.insert_sandbox(&row(2), AliveLimit(9), None).await.unwrap();
    let id = row(2).spec.id;
    let mounts = world.store.volumes_of_sandbox(&id).await.unwrap();
    assert_eq!((mounts.len(), mounts[0].name.as_str()), (1, "data"));
    match world.store.mark_volume_deleting(&data.id).await {
        Err(StoreError::VolumeInUse { sandboxes }) => assert_eq!(sandboxes, [id.to_string()]),
        other => panic!("{other:?}"),
    }
    let ended = Ended { reason: EndReason::Requested, at: at(5), detail: None, usage: None };
    world.store.mark_ended(&id, &ended).await.unwrap();
    assert!(world.store.mark_volume_deleting(&data.id).await.unwrap());
    let late = world.store.insert_sandbox(&row(3), AliveLimit(9), None).await;
    assert!(matches!(late, Err(StoreError::NoVolume { .. })), "{late:?}");
}
