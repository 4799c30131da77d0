//! One record of the flow log as a line of text.

use courier_types::egress::{Flow, FlowEvent, FlowRefusal, Protocol, Transport};

use crate::output::printable_name;

/// The head of the table.
pub(crate) const HEAD: &str =
    "TIME      WHAT     RESULT                   OUT        IN       MS  WHERE";

/// Columns of one line.
#[derive(Default)]
struct Cells {
    what: String,
    result: String,
    bytes: Option<(u64, u64)>,
    duration_ms: Option<u64>,
    place: String,
    /// Names of credentials, or why.
    note: String,
}

/// One line, without its end. What a guest chose cannot steer the terminal.
pub(crate) fn line(flow: &Flow) -> String {
    let Cells { what, result, bytes, duration_ms, place, note } = cells(&flow.event);
    let (sent, received) = bytes.map(|(sent, received)| (size(sent), size(received))).unzip();
    let (sent, received) = (sent.unwrap_or_default(), received.unwrap_or_default());
    let duration = duration_ms.map(|ms| ms.to_string()).unwrap_or_default();
    let time = flow.at.to_rfc3339();
    let time = time.get(11..19).unwrap_or(&time);
    let text = format!(
        "{time}  {what:<7}  {result:<18}  {sent:>8}  {received:>8}  {duration:>7}  {place}{note}"
    );
    printable_name(text.trim_end())
}

fn cells(event: &FlowEvent) -> Cells {
    match event {
        FlowEvent::Dns { host, record, answers, duration_ms } => Cells {
            what: "dns".to_owned(),
            result: format!("{answers} {record}"),
            duration_ms: Some(duration_ms.0),
            place: host.to_string(),
            ..Cells::default()
        },
        FlowEvent::Connection { .. } => connection(event),
        FlowEvent::Request { .. } => request(event),
        FlowEvent::Refused { .. } => refused(event),
        FlowEvent::Policy { closed } => Cells {
            what: "policy".to_owned(),
            result: "replaced".to_owned(),
            place: format!("{closed} connections closed"),
            ..Cells::default()
        },
    }
}

fn connection(event: &FlowEvent) -> Cells {
    let FlowEvent::Connection {
        host,
        tunnel,
        address,
        protocol,
        bytes_out,
        bytes_in,
        duration_ms,
        error,
    } = event
    else {
        return Cells::default();
    };
    let name = match (tunnel, host) {
        (Some(tunnel), _) => format!("tunnel {tunnel}"),
        (None, Some(host)) => format!("{host}:{}", address.port()),
        (None, None) => address.to_string(),
    };
    Cells {
        what: protocol_name(*protocol).to_owned(),
        result: if error.is_some() { "failed" } else { "closed" }.to_owned(),
        bytes: Some((*bytes_out, *bytes_in)),
        duration_ms: Some(duration_ms.0),
        place: name,
        note: why(error.as_deref()),
    }
}

fn request(event: &FlowEvent) -> Cells {
    let FlowEvent::Request {
        host,
        address,
        method,
        path,
        status,
        bytes_out,
        bytes_in,
        duration_ms,
        credentials,
        error,
    } = event
    else {
        return Cells::default();
    };
    let port = match address.port() {
        80 | 443 => String::new(),
        port => format!(":{port}"),
    };
    let names: Vec<&str> = credentials.iter().map(|name| name.as_str()).collect();
    let added = if names.is_empty() { String::new() } else { format!("  +{}", names.join(" +")) };
    Cells {
        what: method.clone(),
        result: status.map_or_else(|| "no answer".to_owned(), |status| status.to_string()),
        bytes: Some((*bytes_out, *bytes_in)),
        duration_ms: Some(duration_ms.0),
        place: format!("{host}{port}{path}"),
        note: format!("{added}{}", why(error.as_deref())),
    }
}

fn refused(event: &FlowEvent) -> Cells {
    let FlowEvent::Refused { transport, host, address, protocol, method, path, refusal, count } =
        event
    else {
        return Cells::default();
    };
    let FlowRefusal { fence, why: reason } = refusal;
    let port = address.filter(|address| address.port() > 0).map(|address| address.port());
    let place = match (host, address, port) {
        (Some(host), _, Some(port)) => format!("{host}:{port}"),
        (Some(host), _, None) => host.to_string(),
        (None, Some(address), None) => address.ip().to_string(),
        (None, Some(address), Some(_)) => address.to_string(),
        (None, None, _) => "-".to_owned(),
    };
    let times = if *count > 1 { format!(" x{count}") } else { String::new() };
    let spoken = protocol.map(|protocol| protocol_name(protocol).to_owned());
    Cells {
        what: method.clone().or(spoken).unwrap_or_else(|| transport_name(*transport).to_owned()),
        result: format!("REFUSED {fence}{times}"),
        place: format!("{place}{}", path.as_deref().unwrap_or_default()),
        note: why(Some(reason)),
        ..Cells::default()
    }
}

fn why(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map(|text| format!("  ({text})")).unwrap_or_default()
}

const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Https => "https",
        Protocol::Tcp => "tcp",
    }
}

const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Dns => "dns",
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Icmp => "icmp",
        Transport::Ipv6 => "ipv6",
        Transport::Other => "other",
    }
}

/// Bytes with two or three digits that count.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    let unit = UNITS.into_iter().find(|(_, unit)| bytes >= *unit);
    let Some((name, unit)) = unit else { return format!("{bytes} B") };
    let tenths = bytes / (unit / 10);
    if tenths >= 100 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_is_one_line_whatever_a_guest_wrote() {
        let lines: Vec<String> = [
            r#""event":"dns","host":"api.example.com","record":"A","answers":2,"duration_ms":12"#,
            r#""event":"connection","host":"git.example.com","address":"192.0.2.1:22","protocol":"tcp","bytes_out":1200,"bytes_in":3400000,"duration_ms":900"#,
            r#""event":"connection","tunnel":"db","address":"198.18.0.1:5432","protocol":"tcp","bytes_out":1,"bytes_in":2,"duration_ms":3,"error":"the connector is gone""#,
            r#""event":"request","host":"api.example.com","address":"192.0.2.1:443","method":"POST","path":"/v1/models","status":200,"bytes_out":999,"bytes_in":12345,"duration_ms":345,"credentials":["openai"]"#,
            r#""event":"request","host":"a.test","address":"192.0.2.1:8443","method":"GET","path":"/","bytes_out":0,"bytes_in":0,"duration_ms":5,"error":"the upstream's certificate is not valid""#,
            r#""event":"refused","transport":"dns","host":"evil.test","fence":"policy","why":"no rule of the sandbox is about it","count":3"#,
            r#""event":"refused","transport":"tcp","host":"api.example.com","address":"192.0.2.1:443","protocol":"https","method":"DELETE","path":"/v1/\u001b[2J\nx","fence":"policy","why":"rule 1","count":1"#,
            r#""event":"refused","transport":"udp","address":"192.0.2.9:443","fence":"protocol","why":"","count":1"#,
            r#""event":"refused","transport":"icmp","address":"192.0.2.9:0","fence":"protocol","why":"","count":1"#,
            r#""event":"refused","transport":"ipv6","fence":"protocol","why":"","count":1"#,
            r#""event":"policy","closed":2"#,
        ]
        .into_iter()
        .map(|event| {
            let text = format!(r#"{{"seq":1,"at":1000000,{event}}}"#);
            line(&serde_json::from_str(&text).unwrap())
        })
        .collect();
        assert!(lines.iter().all(|line| !line.chars().any(char::is_control)));
        insta::assert_snapshot!(format!("{HEAD}\n{}", lines.join("\n")));
    }

    #[test]
    fn sizes_have_the_digits_that_count() {
        let sizes = [0, 999, 1_000, 1_234, 12_345, 123_456, 1_000_000, 2_500_000_000, u64::MAX];
        let told: Vec<String> = sizes.into_iter().map(size).collect();
        let first = ["0 B", "999 B", "1.0 kB", "1.2 kB", "12 kB", "123 kB", "1.0 MB", "2.5 GB"];
        assert_eq!(told[..first.len()], first);
    }
}
