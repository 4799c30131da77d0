//! The flow log of one sandbox: bounded, streamable; what falls out shows as a gap in the numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use courier_types::Timestamp;
use courier_types::egress::{Flow, FlowEvent, FlowPage};
use tokio::sync::watch;

/// Most records that are kept. At some 300 bytes each this is 1.2 MB for a sandbox.
const RECORDS_MAX: usize = 4_096;

/// Longest text of a record in bytes, be it a path or a reason. A record has two such texts at most,
/// and a name or two, so a log has 10 MB at its worst.
const TEXT_MAX: usize = 1_024;

/// A refusal like the last one within this span is counted, not repeated: a guest cannot push what
/// matters out of the log by repeating what does not.
const REPEAT_SPAN: Duration = Duration::from_secs(1);

/// The log. Clones share it.
#[derive(Debug, Clone)]
pub struct FlowLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    records: Mutex<VecDeque<Flow>>,
    /// The number of the newest record.
    newest: watch::Sender<u64>,
}

impl Default for FlowLog {
    fn default() -> Self {
        let records = Mutex::new(VecDeque::new());
        Self(Arc::new(Shared { records, newest: watch::Sender::new(0) }))
    }
}

impl FlowLog {
    fn records(&self) -> MutexGuard<'_, VecDeque<Flow>> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record.
    pub fn write(&self, event: FlowEvent) {
        let event = bounded(event);
        let at = Timestamp::from(SystemTime::now());
        let mut records = self.records();
        if let Some(last) = records.back_mut()
            && repeats(last, &event, at)
        {
            return;
        }
        let seq = records.back().map_or(0, |flow| flow.seq).saturating_add(1);
        records.push_back(Flow { seq, at, event });
        while records.len() > RECORDS_MAX {
            records.pop_front();
        }
        drop(records);
        self.0.newest.send_replace(seq);
    }

    /// At most `limit` records after number `after`, oldest first.
    #[must_use]
    pub fn page(&self, after: u64, limit: usize) -> FlowPage {
        let records = self.records();
        let oldest = records.front().map_or(0, |flow| flow.seq);
        let missed = oldest.saturating_sub(after.saturating_add(1));
        let flows = records.iter().filter(|flow| flow.seq > after).take(limit).cloned().collect();
        FlowPage { flows, missed }
    }

    /// Forgets the oldest records, so that the newest `bytes` of text are left: for a log that is
    /// only kept.
    pub fn keep_newest(&self, bytes: usize) {
        let mut records = self.records();
        let mut left = bytes;
        let kept = records.iter().rev().take_while(|flow| {
            let fits = left.checked_sub(weight(&flow.event));
            left = fits.unwrap_or_default();
            fits.is_some()
        });
        let surplus = records.len().saturating_sub(kept.count());
        records.drain(..surplus);
        records.shrink_to_fit();
    }

    /// Reads on from after number `after`, waiting for what is yet to come.
    #[must_use]
    pub fn follow(&self, after: u64) -> FlowReader {
        FlowReader { log: self.clone(), newest: self.0.newest.subscribe(), after }
    }
}

/// The event with every text that a guest or a policy makes long cut to [`TEXT_MAX`].
fn bounded(mut event: FlowEvent) -> FlowEvent {
    match &mut event {
        FlowEvent::Refused { method, path, refusal, .. } => {
            [method, path].into_iter().flatten().for_each(cut);
            cut(&mut refusal.why);
        }
        FlowEvent::Request { method, path, error, .. } => {
            [method, path].into_iter().chain(error).for_each(cut);
        }
        FlowEvent::Connection { error, .. } => error.iter_mut().for_each(cut),
        FlowEvent::Dns { .. } | FlowEvent::Policy { .. } => {}
    }
    event
}

/// About how many bytes of memory a record takes.
fn weight(event: &FlowEvent) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = match event {
        FlowEvent::Refused { method, path, refusal, .. } => {
            text(method) + text(path) + refusal.why.len() + refusal.fence.len()
        }
        FlowEvent::Request { method, path, error, .. } => method.len() + path.len() + text(error),
        FlowEvent::Connection { error, .. } => text(error),
        FlowEvent::Dns { .. } | FlowEvent::Policy { .. } => 0,
    };
    // A name of a host beside the record itself.
    size_of::<Flow>() + texts + 256
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text.shrink_to_fit();
}

/// True when the event repeats the last record, which then counts it.
fn repeats(last: &mut Flow, event: &FlowEvent, at: Timestamp) -> bool {
    let FlowEvent::Refused { count, .. } = &mut last.event else { return false };
    let counted = *count;
    let mut probe = event.clone();
    if let FlowEvent::Refused { count, .. } = &mut probe {
        *count = counted;
    }
    if at.since(last.at) >= REPEAT_SPAN || probe != last.event {
        return false;
    }
    if let FlowEvent::Refused { count, .. } = &mut last.event {
        *count = counted.saturating_add(1);
    }
    true
}

/// Reads a log to the end of time, or of the log.
#[derive(Debug)]
pub struct FlowReader {
    log: FlowLog,
    newest: watch::Receiver<u64>,
    after: u64,
}

impl FlowReader {
    /// The next records, at most `limit`; waits until there are some.
    pub async fn next(&mut self, limit: usize) -> FlowPage {
        loop {
            self.newest.mark_unchanged();
            let page = self.log.page(self.after, limit);
            if let Some(last) = page.flows.last() {
                self.after = last.seq;
                return page;
            }
            if self.newest.changed().await.is_err() {
                // The reader itself holds the log, so its sender is there; see `log`.
                return FlowPage::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use courier_types::egress::{FlowRefusal, Transport};

    use super::*;

    fn refused(why: &str) -> FlowEvent {
        FlowEvent::Refused {
            transport: Transport::Udp,
            host: None,
            address: None,
            protocol: None,
            method: None,
            path: None,
            refusal: FlowRefusal::new("protocol", why),
            count: 1,
        }
    }

    #[test]
    fn what_fell_out_of_the_bound_is_told_as_missed() {
        let log = FlowLog::default();
        for n in 0..RECORDS_MAX + 10 {
            log.write(refused(&n.to_string()));
        }
        let page = log.page(0, 5);
        assert_eq!((page.missed, page.flows.len()), (10, 5));
        assert_eq!(page.flows[0].seq, 11);
    }

    #[test]
    fn a_repeated_refusal_is_counted_and_not_repeated() {
        let log = FlowLog::default();
        for _ in 0..100 {
            log.write(refused("same"));
        }
        let page = log.page(0, 100);
        let counts: u32 = page
            .flows
            .iter()
            .map(|flow| match &flow.event {
                FlowEvent::Refused { count, .. } => *count,
                _ => 0,
            })
            .sum();
        assert!(page.flows.len() < 5, "{}", page.flows.len());
        assert_eq!(counts, 100);
    }

    #[test]
    fn a_record_is_bounded_whatever_the_guest_wrote() {
        let log = FlowLog::default();
        let mut event = refused(&"é".repeat(5_000));
        if let FlowEvent::Refused { method, path, .. } = &mut event {
            (*method, *path) = (Some("M".repeat(8_000)), Some("/".repeat(8_000)));
        }
        log.write(event);
        match &log.page(0, 1).flows[0].event {
            FlowEvent::Refused { method, path, refusal, .. } => {
                assert_eq!(refusal.why.len(), TEXT_MAX);
                assert!(method.as_ref().unwrap().len() <= TEXT_MAX);
                assert!(path.as_ref().unwrap().len() <= TEXT_MAX);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_log_that_is_only_kept_the_newest_records_are_left() {
        let log = FlowLog::default();
        for n in 0..1_000 {
            log.write(refused(&n.to_string()));
        }
        let all = log.page(0, 1_000).flows;
        log.keep_newest(64 * 1024);
        let kept = log.page(0, 1_000);
        assert!(kept.flows.len() < 500 && !kept.flows.is_empty(), "{}", kept.flows.len());
        assert_eq!(all.last(), kept.flows.last());
        assert_eq!(kept.missed, 1_000 - kept.flows.len() as u64);
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_is_yet_to_come() {
        let log = FlowLog::default();
        let mut reader = log.follow(0);
        let waiting = tokio::spawn(async move { reader.next(10).await });
        log.write(refused("late"));
        assert_eq!(waiting.await.unwrap().flows.len(), 1);
    }
}
