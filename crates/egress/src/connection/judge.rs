//! Whether a TLS connection may go on, and how, by its hello alone. Pure.

use std::net::SocketAddrV4;

use courier_types::egress::{FlowRefusal, HostName};

use crate::policy::{Compiled, Decision, Question, Verdict};
use crate::tls::ca::Subject;
use crate::tls::hello::Hello;

/// How it may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Course {
    /// Unopened.
    Pass,
    /// Opened, as that server.
    Open(Subject),
}

/// What decided, for people.
pub(crate) fn why(decision: &Decision<'_>) -> String {
    let texts: Vec<&str> = decision.reasons.iter().map(|reason| reason.text.as_str()).collect();
    texts.join("; ")
}

/// Judges a hello to `address`, which our own answers gave for `names`.
pub(crate) fn judge(
    policy: &Compiled,
    address: SocketAddrV4,
    names: &[HostName],
    hello: &Hello,
) -> Result<Course, FlowRefusal> {
    let course = match &hello.server_name {
        Some(name) if names.contains(name) => by_name(policy, address, name)?,
        Some(name) => by_foreign_name(policy, address, name)?,
        None => by_address(policy, address, names)?,
    };
    // Who opens it has no key for ECH, so the inner hello is never used; who passes it on would
    // not know which name it has judged. Browsers send the extension without hiding anything, and
    // nobody can tell that apart.
    if course == Course::Pass && hello.hides_name && !policy.passes_any_name(address) {
        return Err(FlowRefusal::new(
            "ech",
            "the client sends encrypted_client_hello, which may hide another name: switch it off \
             there, or have the connection opened by a rule with methods or paths",
        ));
    }
    Ok(course)
}

fn by_name(
    policy: &Compiled,
    address: SocketAddrV4,
    name: &HostName,
) -> Result<Course, FlowRefusal> {
    let decision = policy.decide(&Question::Tls { address, host: Some(name) });
    match decision.verdict {
        Verdict::Allow => Ok(Course::Pass),
        Verdict::Inspect => Ok(Course::Open(Subject::Host(name.clone()))),
        Verdict::Deny => Err(FlowRefusal::new("policy", why(&decision))),
    }
}

/// A name for which we did not give this address: nothing is known of whom it leads to, so that
/// only a rule about the address itself can let it pass, and no rule about the name may be against
/// it. It is never opened: what is added to requests is meant for a name.
fn by_foreign_name(
    policy: &Compiled,
    address: SocketAddrV4,
    name: &HostName,
) -> Result<Course, FlowRefusal> {
    let allows = |host| policy.decide(&Question::Tls { address, host }).verdict == Verdict::Allow;
    if allows(None) && allows(Some(name)) {
        return Ok(Course::Pass);
    }
    let why = format!("the server name is {name}, and no answer gave {} for it", address.ip());
    Err(FlowRefusal::new("sni", why))
}

fn by_address(
    policy: &Compiled,
    address: SocketAddrV4,
    names: &[HostName],
) -> Result<Course, FlowRefusal> {
    let decision = policy.decide(&Question::Tls { address, host: None });
    match decision.verdict {
        Verdict::Allow => Ok(Course::Pass),
        Verdict::Inspect => Ok(Course::Open(Subject::Address(*address.ip()))),
        Verdict::Deny if names.is_empty() => Err(FlowRefusal::new("policy", why(&decision))),
        Verdict::Deny => {
            let why = format!("the client names no server, and {}", why(&decision));
            Err(FlowRefusal::new("sni", why))
        }
    }
}

#[cfg(test)]
mod tests;
