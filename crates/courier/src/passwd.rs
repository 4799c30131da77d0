//! Users of the host, from `/etc/passwd` itself: the binary is static, so the C library's name
//! service is not there.

/// A user of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    /// Its id.
    pub(crate) uid: u32,
    /// Its first group.
    pub(crate) gid: u32,
}

impl User {
    /// The one with all the rights.
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Looks a user up by name.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn find(name: &str) -> std::io::Result<Option<User>> {
    match std::fs::read_to_string("/etc/passwd") {
        Ok(text) => Ok(parse(&text, name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str, name: &str) -> Option<User> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_only() {
        let text = "root:x:0:0:root:/root:/bin/sh\ncourier2:x:7:8::/:/bin/false\ncourier:x:991:990:a b:/var/lib/courier:/usr/sbin/nologin\n";
        assert_eq!(parse(text, "courier"), Some(User { uid: 991, gid: 990 }));
        assert_eq!(parse(text, "cour"), None);
        assert_eq!(parse("courier:x:-1:990::/:/", "courier"), None);
    }
}
