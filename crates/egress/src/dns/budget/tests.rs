use tokio::time::advance;

use super::*;

fn below() -> Width {
    Width::Below("allowed.test".parse().unwrap())
}

/// Names of that many characters below the parent, until one does not pass: the bytes that passed.
fn spend(budgets: &mut Budgets, width: &Width, from: &mut usize) -> usize {
    let mut passed = 0;
    loop {
        *from += 1;
        let host: HostName = format!("{from:0>50}.allowed.test").parse().unwrap();
        if budgets.count_name(&host, width).is_err() {
            return passed;
        }
        passed += 50;
    }
}

#[tokio::test(start_paused = true)]
async fn names_below_a_wildcard_say_at_most_2_kib_in_any_minute() {
    let (mut budgets, mut from) = (Budgets::new(), 0);
    advance(Duration::from_hours(1)).await;
    let mut passed = spend(&mut budgets, &below(), &mut from);
    assert!(passed > 900, "{passed}");
    for _ in 0..59 {
        advance(Duration::from_secs(1)).await;
        passed += spend(&mut budgets, &below(), &mut from);
    }
    assert!((1_500..=2_048).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn an_exact_name_costs_nothing_and_any_name_has_room() {
    let (mut budgets, mut from) = (Budgets::new(), 0);
    spend(&mut budgets, &below(), &mut from);
    let exact: HostName = "api.allowed.test".parse().unwrap();
    for _ in 0..10_000 {
        budgets.count_name(&exact, &Width::Exact).unwrap();
    }
    let passed = spend(&mut budgets, &Width::Any, &mut from);
    assert!((20_000..=32_768).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn asking_again_costs_little_and_is_no_way_around() {
    let mut budgets = Budgets::new();
    let host: HostName = format!("{}.allowed.test", "x".repeat(60)).parse().unwrap();
    let mut passed = 0;
    while budgets.count_name(&host, &below()).is_ok() {
        passed += 1;
    }
    assert!((400..=512).contains(&passed), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn questions_are_limited_to_a_burst_and_a_rate_and_told_once() {
    let mut budgets = Budgets::new();
    let mut tell = || {
        let mut passed = 0;
        loop {
            match budgets.count_question() {
                Ok(()) => passed += 1,
                Err(spent) => return (passed, spent.why.is_some()),
            }
        }
    };
    assert_eq!(tell(), (200, true));
    assert_eq!(tell(), (0, false));
    advance(Duration::from_secs(1)).await;
    assert_eq!(tell(), (50, false));
    advance(TELL_SPAN).await;
    assert_eq!(tell(), (200, true));
}
