//! What `courier serve` prints when it is ready: lines to copy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::domain::Domain;

/// What there is to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcement<'a> {
    /// Where the API answers.
    pub(crate) url: &'a str,
    /// The key, at the first start only: it is shown once.
    pub(crate) new_key: Option<&'a str>,
    /// Where the key is.
    pub(crate) key_file: &'a Path,
    /// In domain mode.
    pub(crate) tls: Option<TlsLines<'a>>,
}

/// What there is to say of domain mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TlsLines<'a> {
    /// The domain that clients use.
    pub(crate) domain: &'a Domain,
    /// The CA's certificate.
    pub(crate) ca_file: &'a Path,
    /// Where TLS answers.
    pub(crate) address: SocketAddr,
}

impl Announcement<'_> {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("courier serves on {}\n", self.url);
        let key = match self.new_key {
            Some(key) => {
                let file = self.key_file.display();
                push(
                    &mut text,
                    &format!("\nA new API key, shown only now (it is kept in {file}):\n"),
                );
                key.to_owned()
            }
            None => {
                push(&mut text, "\nPoint the E2B SDKs at it with:\n");
                format!("\"$(cat {})\"", quote(self.key_file))
            }
        };
        push(&mut text, &format!("  export E2B_API_KEY={key}\n"));
        match &self.tls {
            None => {
                push(&mut text, &format!("  export E2B_API_URL={}\n", self.url));
                push(&mut text, &format!("  export E2B_SANDBOX_URL={}\n", self.url));
            }
            Some(tls) => tls.push(&mut text),
        }
        text
    }
}

impl TlsLines<'_> {
    fn push(&self, text: &mut String) {
        let (domain, ca) = (self.domain, quote(self.ca_file));
        push(text, &format!("  export E2B_DOMAIN={domain}\n"));
        push(text, &format!("  export NODE_EXTRA_CA_CERTS={ca}    # JavaScript\n"));
        push(text, &format!("  export SSL_CERT_FILE={ca}          # Python\n"));
        push(
            text,
            "SSL_CERT_FILE replaces all other CAs of a Python program; where it needs them too, append\n\
             this one to a copy of the system's bundle and name that. To trust it everywhere on Debian:\n",
        );
        let name = &domain.name;
        push(
            text,
            &format!(
                "  sudo cp {ca} /usr/local/share/ca-certificates/{name}.crt && sudo update-ca-certificates\n"
            ),
        );
        let address = match self.address.ip() {
            ip if ip.is_unspecified() => "THIS-MACHINE".to_owned(),
            ip => ip.to_string(),
        };
        push(
            text,
            &format!(
                "TLS is on {}. {name} and every name below it must lead there, e.g. with dnsmasq:\n  \
                 address=/{name}/{address}\n",
                self.address
            ),
        );
    }
}

/// Formatting into a `String` cannot fail.
fn push(text: &mut String, more: &str) {
    text.write_str(more).expect("a String takes everything");
}

/// A path as a shell takes it.
fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_shows_the_key_and_the_lines_of_url_mode() {
        let announcement = Announcement {
            url: "http://127.0.0.1:3000",
            new_key: Some("e2b_0123"),
            key_file: Path::new("/var/lib/courier/api-key"),
            tls: None,
        };
        insta::assert_snapshot!(announcement.text());
    }

    #[test]
    fn domain_mode_says_how_to_trust_the_ca_and_where_names_must_lead() {
        let announcement = Announcement {
            url: "http://127.0.0.1:3000",
            new_key: None,
            key_file: Path::new("/home/a b/api-key"),
            tls: Some(TlsLines {
                domain: &"e2b.test".parse().unwrap(),
                ca_file: Path::new("/var/lib/courier/ca/e2b.test/ca.pem"),
                address: "127.0.0.1:8443".parse().unwrap(),
            }),
        };
        insta::assert_snapshot!(announcement.text());
    }
}
