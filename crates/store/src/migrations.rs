//! The schema's versions. A version, once released, is never edited: the next one follows it.

use std::path::Path;

use sqlx::{Row as _, SqlitePool};

use crate::OpenError;

/// Every version's script, oldest first; the version is the position, from 1.
const SCRIPTS: [&str; 5] = [
    include_str!("schema/0001_initial.sql"),
    include_str!("schema/0002_purpose.sql"),
    include_str!("schema/0003_egress.sql"),
    include_str!("schema/0004_builds.sql"),
    include_str!("schema/0005_volumes.sql"),
];

/// The newest schema version that this program knows.
pub const SCHEMA_VERSION: i64 = 5;

const CREATE_LEDGER: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY)";

/// Brings the schema up to date, each version in a transaction of its own.
pub(crate) async fn run(writer: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    let opened = |source| OpenError::Open { path: path.to_owned(), source };
    sqlx::raw_sql(CREATE_LEDGER).execute(writer).await.map_err(opened)?;
    let found: i64 = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_version")
        .fetch_one(writer)
        .await
        .and_then(|row| row.try_get("version"))
        .map_err(opened)?;
    if found > SCHEMA_VERSION {
        let path = path.to_owned();
        return Err(OpenError::NewerSchema { path, found, known: SCHEMA_VERSION });
    }
    for (version, script) in (1_i64..).zip(SCRIPTS).filter(|(version, _)| *version > found) {
        apply(writer, version, script).await.map_err(|source| OpenError::Migrate {
            path: path.to_owned(),
            version,
            source,
        })?;
    }
    Ok(())
}

async fn apply(writer: &SqlitePool, version: i64, script: &'static str) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(script).execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
        .bind(version)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Store;

    #[test]
    fn the_newest_version_is_the_last_script() {
        assert_eq!(usize::try_from(SCHEMA_VERSION).unwrap(), SCRIPTS.len());
    }

    #[tokio::test]
    async fn a_database_opens_twice_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("courier.db");
        Store::open(&path).await.unwrap().close().await;
        Store::open(&path).await.unwrap().close().await;
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// A database as version 3 left it, with a template of the installation and one of a project.
    async fn of_version_3(path: &Path) {
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        sqlx::raw_sql(CREATE_LEDGER).execute(&pool).await.unwrap();
        for (version, script) in (1_i64..).zip(SCRIPTS).take(3) {
            apply(&pool, version, script).await.unwrap();
        }
        sqlx::raw_sql(
            "INSERT INTO projects VALUES ('p00000000000000000001', 'default', 1); \
             INSERT INTO templates (id, project_id, build, build_id, limits, created_at, \
             updated_at, build_count, spawn_count, egress) VALUES \
             ('00000000000000000001', NULL, 'base-1', '00000000-0000-8000-8000-000000000001', \
             '{\"memory_mib\":1024}', 1, 5, 3, 7, '{\"rules\":[]}'), \
             ('00000000000000000002', 'p00000000000000000001', 'own-1', \
             '00000000-0000-8000-8000-000000000002', '{}', 2, 2, 1, 0, NULL); \
             INSERT INTO template_names VALUES ('base', '00000000000000000001', 0), \
             ('other', '00000000000000000001', 1), ('own', '00000000000000000002', 0)",
        )
        .execute(&pool)
        .await
        .unwrap();
        pool.close().await;
    }

    #[tokio::test]
    async fn templates_of_an_older_version_keep_their_names_and_get_a_build_with_its_tag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("courier.db");
        of_version_3(&path).await;
        let store = Store::open(&path).await.unwrap();
        let project = "p00000000000000000001".parse().unwrap();
        let base = store.find_template(&project, "other").await.unwrap().unwrap();
        assert_eq!((base.names.len(), base.build_count, base.spawn_count), (2, 3, 7));
        let key = crate::BuildKey::Tag(crate::DEFAULT_TAG);
        let build = store.find_ready_build(&base.id, &key).await.unwrap().unwrap();
        assert_eq!((build.reference.as_str(), build.limits.memory_mib()), ("base-1", 1_024));
        assert_eq!(build.id.as_str(), "00000000-0000-8000-8000-000000000001");
        assert!(build.egress.is_some() && build.config == courier_types::BuildConfig::default());
        let own = store.find_template(&project, "own").await.unwrap().unwrap();
        assert!(own.project_id.is_some() && !own.public && base.public);
        assert_eq!(store.list_templates(&project).await.unwrap().len(), 2);
        assert!(store.find_installed_template("own").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("courier.db");
        let store = Store::open(&path).await.unwrap();
        let mut transaction = store.begin().await.unwrap();
        sqlx::raw_sql("INSERT INTO schema_version (version) VALUES (99)")
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        store.close().await;
        let error = Store::open(&path).await.unwrap_err();
        assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
        assert!(error.to_string().contains("install the newer version"), "{error}");
    }
}
