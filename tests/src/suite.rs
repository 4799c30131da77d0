//! One test program: shares a world among its tests, and looks at the host afterwards.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::baseline::Baseline;
use crate::environment::Environment;
use crate::host;

/// A test: its name, a sentence about behaviour, and its code.
pub type Test<W> = (&'static str, fn(&W));

/// A test whose code has something of its own, such as a line of a table.
pub struct Case<W> {
    /// A sentence about behaviour.
    pub name: &'static str,
    /// Its code.
    pub act: Box<dyn Fn(&W) + Send>,
}

impl<W> std::fmt::Debug for Case<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<W: 'static> From<&Test<W>> for Case<W> {
    fn from((name, test): &Test<W>) -> Self {
        Self { name, act: Box::new(*test) }
    }
}

/// Runs every test on a shared world, as [`run_cases`] does.
pub fn run<W, M>(make: M, tests: &[Test<W>]) -> ExitCode
where
    W: std::marker::Send + Sync + 'static,
    M: FnOnce(Environment) -> W,
{
    run_cases(make, tests.iter().map(Case::from).collect())
}

/// Runs every case on a shared world, one at a time, then drops the world and compares the host
/// with how it was before. The comparison is a test too.
pub fn run_cases<W, M>(make: M, cases: Vec<Case<W>>) -> ExitCode
where
    W: std::marker::Send + Sync + 'static,
    M: FnOnce(Environment) -> W,
{
    let mut arguments = Arguments::from_args();
    // The machines of our users have few cores; two sandboxes at once are enough to be a crowd.
    arguments.test_threads.get_or_insert(1);
    if arguments.list {
        let trials = cases.iter().map(|case| Trial::test(case.name, || Ok(()))).collect();
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let baseline = Baseline::take();
    let environment = Environment::load();
    let scratch = environment.scratch.clone();
    let world = Arc::new(make(environment));
    let trials = cases
        .into_iter()
        .map(|case| {
            let world = Arc::clone(&world);
            Trial::test(case.name, move || {
                (case.act)(&world);
                Ok(())
            })
        })
        .collect();
    let outcome = libtest_mimic::run(&arguments, trials);
    drop(world);
    host::end_launchers_below(&scratch);
    // Every test's own folder is gone by now; what is left in it is a failure's, to be looked at.
    drop(std::fs::remove_dir(&scratch));
    if outcome.has_failed() {
        return outcome.exit_code();
    }
    // Silent when all is well: the runner's summary stays the last line.
    baseline.assert_restored();
    ExitCode::SUCCESS
}

/// Lists test functions with their names.
#[macro_export]
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        &[$((stringify!($test), $test as fn(&_))),*]
    };
}
