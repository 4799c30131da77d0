//! Logins by machine: the format of `~/.netrc`, and that of apt's `auth.conf`, which adds a scheme
//! and a path to the machine. An entry for every machine (`default`) is left out on purpose: it
//! would say who one is to whomever one asks.

use courier_types::egress::SecretValue;
use url::Url;

use super::mirror::Login;

/// One entry.
pub(crate) struct Entry {
    /// `HOST`, and in apt's file also `[SCHEME://]HOST[:PORT][/PATH]`.
    machine: String,
    /// Who one is there.
    login: Login,
}

/// The entries of a file, in order.
pub(crate) fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut words = text
        .lines()
        .map(|line| line.split_once(" #").map_or(line, |(before, _comment)| before))
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace);
    let (mut machine, mut user, mut password) = (None, String::new(), None);
    loop {
        let word = words.next();
        if matches!(word, None | Some("machine" | "default" | "macdef")) {
            let username = std::mem::take(&mut user);
            if let (Some(machine), Some(password)) = (machine.take(), password.take()) {
                let login = Login::Basic { username, password };
                entries.push(Entry { machine, login });
            }
        }
        match word {
            None | Some("macdef") => return entries,
            Some("machine") => machine = words.next().map(str::to_ascii_lowercase),
            Some("login") => user = words.next().unwrap_or_default().to_owned(),
            Some("password") => {
                password = words.next().map(|word| SecretValue::new(word.as_bytes().to_vec()));
            }
            Some(_other) => {}
        }
    }
}

/// The login for a host, whatever its port and path (`~/.netrc`).
pub(crate) fn for_host(entries: &[Entry], url: &Url) -> Option<Login> {
    let host = url.host_str()?;
    let entry = entries.iter().find(|entry| entry.machine == host)?;
    Some(entry.login.clone())
}

/// The login for an address, as apt looks it up (`apt_auth.conf(5)`): host and port are equal, the
/// path begins with the entry's; an entry without a scheme is for `https`.
pub(crate) fn for_address(entries: &[Entry], url: &Url) -> Option<Login> {
    let matches = |entry: &&Entry| {
        let with_scheme = if entry.machine.contains("://") {
            entry.machine.clone()
        } else {
            format!("https://{}", entry.machine)
        };
        with_scheme.parse::<Url>().is_ok_and(|place: Url| {
            place.origin() == url.origin() && url.path().starts_with(place.path())
        })
    };
    entries.iter().find(matches).map(|entry| entry.login.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(login: Option<Login>) -> Option<String> {
        match login? {
            Login::Basic { username, .. } => Some(username),
            Login::WholeBasic(_) | Login::Bearer(_) | Login::Raw(_) => None,
        }
    }

    const TEXT: &str = "# machine no.test login no password no\nmachine a.test\n  login one password p\n\
        machine https://b.test:8443/deb login two password p\nmachine c.test/x login three password p\n\
        default login all password p\nmachine d.test login four password p\nmacdef init\nmachine e.test login no password p\n";

    #[test]
    fn a_host_has_its_login_and_nobody_has_the_default_one() {
        let entries = entries(TEXT);
        let of = |url: &str| user(for_host(&entries, &url.parse().unwrap()));
        assert_eq!(of("https://a.test:9/x").as_deref(), Some("one"));
        assert_eq!(of("https://d.test/").as_deref(), Some("four"));
        for url in ["https://no.test/", "https://x.test/", "https://e.test/", "https://x.a.test/"] {
            assert_eq!(of(url), None, "{url}");
        }
    }

    #[test]
    fn apt_looks_at_scheme_port_and_path_too() {
        let entries = entries(TEXT);
        let of = |url: &str| user(for_address(&entries, &url.parse().unwrap()));
        assert_eq!(of("https://a.test/debian").as_deref(), Some("one"));
        assert_eq!(of("https://b.test:8443/debian").as_deref(), Some("two"));
        assert_eq!(of("https://c.test/x/y").as_deref(), Some("three"));
        for url in ["http://a.test/debian", "https://b.test/debian", "https://c.test/y"] {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
