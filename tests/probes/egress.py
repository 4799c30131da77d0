"""Tries one thing that a fence should stop, and prints as JSON how far it came.

    egress.py EXPRESSION CANARY

The expression calls the functions below; CANARY is a text that nobody else sends, in it and in
what they send. The same expression runs inside a sandbox and, as its control, where no fence is.
"reached" says whether anybody answered.
"""

import base64
import http.client
import json
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

EXPRESSION, CANARY = sys.argv[1:3]
# An answer of a decoy takes milliseconds; what takes longer does not come.
PATIENCE = 1.2
# After the first bytes of an answer the rest comes at once.
SILENCE = 0.4
# The authority of the test internet, beside those that the machine trusts.
AUTHORITY = os.environ.get("PROBE_CA", "/tmp/internet-ca.pem")
# What is sent where nothing else is asked for.
REQUEST = f"GET /{CANARY} HTTP/1.0\r\nHost: {{host}}\r\n\r\n"
SO_BINDTODEVICE = 25

A, NS, CNAME, NULL, PTR, MX, TXT, AAAA, SRV, SVCB, HTTPS, ANY = 1, 2, 5, 10, 12, 15, 16, 28, 33, 64, 65, 255


def as_bytes(data, host=""):
    if data is None:
        data = REQUEST.format(host=host)
    return data.encode("latin-1") if isinstance(data, str) else data


def result(got=None, **more):
    text = got.decode("latin-1") if isinstance(got, bytes) else got
    return {"reached": got is not None, "got": text, **more}


def failed(error):
    return {"reached": False, "got": None, "error": f"{type(error).__name__}: {error}"}


def read(stream, patience=PATIENCE):
    """What comes until the other side ends or falls silent."""
    stream.settimeout(patience)
    got = b""
    try:
        while len(got) < 1 << 20:
            piece = stream.recv(65536)
            if not piece:
                break
            got += piece
            stream.settimeout(SILENCE)
    except OSError:
        pass
    return got


def connect(host, port, patience=PATIENCE, source=None):
    return socket.create_connection((host, port), patience, source)


def dial(host, port, data=None, family=None, scope=None):
    """TCP: a request, and whatever comes back."""
    try:
        if family == 6:
            stream = socket.socket(socket.AF_INET6)
            stream.settimeout(PATIENCE)
            index = socket.if_nametoindex(device()) if scope else 0
            stream.connect((host, port, 0, index))
        else:
            stream = connect(host, port)
    except OSError as error:
        return failed(error)
    with stream:
        try:
            stream.sendall(as_bytes(data, host))
        except OSError as error:
            return failed(error)
        return result(read(stream) or None)


def device():
    """The interface that is not loopback."""
    return next(name for _index, name in socket.if_nameindex() if name != "lo")


def udp(host, port, data=None, broadcast=False, ttl=None, family=4, source=None):
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM) as stream:
        stream.settimeout(PATIENCE / 2)
        try:
            if broadcast:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if ttl and family == 4:
                stream.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                stream.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            if source:
                stream.bind((source, 0))
            stream.sendto(as_bytes(data or CANARY), (host, port))
            return result(stream.recv(65536))
        except OSError as error:
            return failed(error)


def multicast6(group, port):
    index = socket.if_nametoindex(device())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stream:
        try:
            stream.sendto(CANARY.encode(), (group, port, 0, index))
        except OSError as error:
            return failed(error)
    return result(None)


def icmp(host, family=4, raw=False, ttl=None):
    """An echo request with a payload."""
    kind, protocol, echo = (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    if family == 6:
        kind, protocol, echo = (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)
    body = struct.pack("!BBHHH", echo, 0, 0, 7, 1) + CANARY.encode()
    total = sum(struct.unpack(f"!{len(body + bytes(len(body) % 2)) // 2}H", body + bytes(len(body) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    try:
        with socket.socket(kind, socket.SOCK_RAW if raw else socket.SOCK_DGRAM, protocol) as stream:
            stream.settimeout(PATIENCE / 2)
            if ttl:
                stream.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            stream.sendto(body, (host, 0))
            return result(stream.recv(65536))
    except OSError as error:
        return failed(error)


def raw_packet(host, protocol):
    """An IP packet of a protocol that is neither TCP, UDP nor ICMP."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as stream:
            stream.sendto(CANARY.encode(), (host, 0))
    except OSError as error:
        return failed(error)
    return result(None, sent=True)


def resolver():
    with open("/etc/resolv.conf") as file:
        return next(line.split()[1] for line in file if line.startswith("nameserver"))


def question(name, kind=A, identity=0x1234, flags=0x0100, count=1, labels=None):
    labels = labels if labels is not None else name.encode("latin-1").rstrip(b".").split(b".")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", identity, flags, count, 0, 0, 0) + encoded + struct.pack("!2H", kind, 1)


def skip_name(answer, at):
    while answer[at]:
        if answer[at] & 0xC0:
            return at + 2
        at += answer[at] + 1
    return at + 1


def addresses(answer):
    """The addresses in an answer."""
    _identity, _flags, questions, answers = struct.unpack("!4H", answer[:8])
    at, found = 12, []
    for _ in range(questions):
        at = skip_name(answer, at) + 4
    for _ in range(answers):
        at = skip_name(answer, at)
        kind, _class, _ttl, length = struct.unpack("!2HIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        at += 10 + length
        if kind in (A, AAAA):
            found.append(socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, data))
    return found


def dns(name, kind=A, server=None, port=53, tcp=False, message=None):
    """A question; "reached" when it was answered with records."""
    message = message or question(name, kind)
    server = server or resolver()
    try:
        if tcp:
            with connect(server, port) as stream:
                stream.sendall(struct.pack("!H", len(message)) + message)
                answer = read(stream, PATIENCE / 2)[2:]
        else:
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as stream:
                stream.settimeout(PATIENCE)
                stream.sendto(message, (server, port))
                answer = stream.recv(65536)
    except OSError as error:
        return failed(error)
    if len(answer) < 12:
        return result(None)
    code, records = answer[3] & 0x0F, struct.unpack("!H", answer[6:8])[0]
    outcome = {"reached": records > 0, "code": code, "records": records, "length": len(answer)}
    try:
        outcome["addresses"] = addresses(answer)
    except (IndexError, struct.error):
        outcome["addresses"] = None
    return outcome


def resolve(name):
    """The IPv4 addresses of a name, as programs ask."""
    return sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)})


def raw(name, payload, port=80, address=None, pieces=None, pause=0.0):
    """Bytes on a connection to where a name is, as they stand; in pieces of a size, with pauses."""
    payload = as_bytes(payload)
    try:
        stream = connect(address or resolve(name)[0], port)
    except OSError as error:
        return failed(error)
    with stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for at in range(0, len(payload), pieces or len(payload)):
                stream.sendall(payload[at : at + (pieces or len(payload))])
                time.sleep(pause)
        except OSError as error:
            return failed(error)
        return result(read(stream) or None)


def say(first, *lines, body="", to="allowed.test", host="allowed.test", version="HTTP/1.1", pieces=None):
    """A request as it is written, in clear; "{CANARY}" stands for the canary."""
    hosts = [f"Host: {host}"] if host else []
    payload = "\r\n".join([f"{first} {version}".rstrip(), *hosts, *lines, "", body])
    return raw(to, payload.replace("{CANARY}", CANARY), pieces=pieces)


def say_within(first, *lines, to="bound.test", host="bound.test"):
    """The same inside TLS."""
    payload = "\r\n".join([f"{first} HTTP/1.1", f"Host: {host}", *lines, "", ""])
    return within(to, payload.replace("{CANARY}", CANARY))


def context(alpn=None):
    made = ssl.create_default_context()
    if os.path.exists(AUTHORITY):
        made.load_verify_locations(AUTHORITY)
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def client_hello(sni, extensions=b"", padding=0):
    """A handshake message; extensions are raw and come after those that are needed."""
    def extension(kind, data):
        return struct.pack("!HH", kind, len(data)) + data

    names = b""
    for name in ([sni] if not isinstance(sni, list) else sni):
        if name is not None:
            text = as_bytes(name)
            names += b"\0" + struct.pack("!H", len(text)) + text
    every = extension(0, struct.pack("!H", len(names)) + names) if names else b""
    every += extension(10, struct.pack("!HH", 2, 29)) + extension(13, struct.pack("!HHH", 4, 0x0403, 0x0804))
    every += extension(43, b"\x02\x03\x04")
    every += extension(51, struct.pack("!HHH", 36, 29, 32) + os.urandom(32)) + extensions
    if padding:
        every += extension(21, bytes(padding))
    body = b"\x03\x03" + os.urandom(32) + b"\x20" + os.urandom(32)
    body += struct.pack("!H", 2) + b"\x13\x01" + b"\x01\0" + struct.pack("!H", len(every)) + every
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message, size=16384):
    """A handshake message in records of at most a size."""
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in parts)


ENCRYPTED_HELLO = struct.pack("!HH", 0xFE0D, 48) + b"\0\0\x01\0\x01\x2a\0\0\0\x26" + os.urandom(38)


def hello(sni, name=None, port=443, address=None, size=16384, pieces=None, pause=0.0, **more):
    """A hello for one name on a connection to where another is; "reached" when a server answers it."""
    outcome = raw(name or sni, records(client_hello(sni, **more), size), port, address, pieces, pause)
    # A handshake record is a server hello; an alert is a refusal.
    outcome["reached"] = bool(outcome["got"]) and outcome["got"].startswith("\x16")
    return outcome


def secured(name, sni=None, port=443, address=None, alpn=None):
    """A finished TLS connection, whose certificate was checked."""
    stream = connect(address or resolve(name)[0], port)
    return context(alpn).wrap_socket(stream, server_hostname=sni or name)


def within(name, payload, sni=None, port=443, address=None, alpn=None):
    """Bytes inside TLS."""
    try:
        with secured(name, sni, port, address, alpn) as stream:
            stream.sendall(as_bytes(payload))
            return result(read(stream) or None)
    except OSError as error:
        return failed(error)


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments):
        return None


def get(url, headers=None, method=None, data=None, follow=True, environment=False):
    """A request as programs make it; proxies only where the environment shall count."""
    handlers = [urllib.request.HTTPSHandler(context=context())]
    if not environment:
        handlers.append(urllib.request.ProxyHandler({}))
    if not follow:
        handlers.append(Stay())
    request = urllib.request.Request(url, as_bytes(data) if data else None, headers or {}, method=method)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as answer:
            return result(answer.read(), status=answer.status, headers=dict(answer.headers))
    except urllib.error.HTTPError as error:
        return result(error.read(), status=error.code, headers=dict(error.headers))
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        return failed(error)


def unpacked(text):
    """A text as a program could read it: decompressed where it is compressed."""
    data = as_bytes(text or "")
    for window in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        try:
            return zlib.decompress(data, window).decode("latin-1")
        except zlib.error:
            pass
    return text


def read_through(outcome):
    """An answer with its body unpacked and its headers as text."""
    return {**outcome, "got": unpacked(outcome.get("got")), "headers": str(outcome.get("headers"))}


def run(command, **variables):
    """A command of the shell."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        env={**os.environ, **variables},
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    outcome = result(done.stdout or None, code=done.returncode)
    outcome["error"] = done.stderr.decode("latin-1")[-600:]
    return outcome


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header field that is neither indexed nor compressed (RFC 7541, 6.2.2)."""
    name, value = name.encode(), as_bytes(value)
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def two(requests, scheme="https"):
    """The client's side of an HTTP/2 connection with requests, each (authority, path, headers)."""
    out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    for index, (authority, path, headers) in enumerate(requests):
        fields = [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", path)]
        block = b"".join(literal(name, value) for name, value in [*fields, *headers])
        out += frame(1, 0x05, 1 + 2 * index, block)
    return out


def bodies(got):
    """What the data frames of an HTTP/2 answer hold."""
    got, out = as_bytes(got or ""), b""
    while len(got) >= 9:
        length = int.from_bytes(got[:3], "big")
        if got[3] == 0:
            out += got[9 : 9 + length]
        got = got[9 + length :]
    return out.decode("latin-1")


def coalesced(name, requests):
    """Requests to several authorities on one connection to where a name is."""
    outcome = within(name, two(requests), alpn=["h2"])
    outcome["bodies"] = bodies(outcome["got"])
    return outcome


def socks(host, port, target, target_port):
    """A SOCKS5 proxy asked for a target, without a password."""
    try:
        with connect(host, port) as stream:
            stream.sendall(b"\x05\x01\0")
            if stream.recv(2)[1:] != b"\0":
                return result(None)
            name = as_bytes(target)
            stream.sendall(b"\x05\x01\0\x03" + bytes([len(name)]) + name + struct.pack("!H", target_port))
            stream.sendall(as_bytes(None, target))
            return result(read(stream) or None)
    except OSError as error:
        return failed(error)


def web_socket(url, text):
    """A text sent over a WebSocket, and what comes back."""
    to = urllib.parse.urlsplit(url)
    try:
        stream = connect(to.hostname, to.port or (443 if to.scheme == "https" else 80))
        if to.scheme == "https":
            stream = context().wrap_socket(stream, server_hostname=to.hostname)
        with stream:
            stream.sendall(
                f"GET {to.path} HTTP/1.1\r\nHost: {to.netloc}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = stream.recv(1)
                if not piece:
                    return result(None, head=head.decode("latin-1"))
                head += piece
            if b" 101 " not in head.split(b"\r\n")[0]:
                return result(None, head=head.decode("latin-1"))
            data = text.encode()
            # One text frame, masked with zeros.
            stream.sendall(b"\x81" + bytes([0x80 | len(data)]) + bytes(4) + data)
            return result(read(stream)[2:] or None)
    except OSError as error:
        return failed(error)


def scan(host, ports):
    """Which TCP ports take a connection."""
    import selectors

    found, ports = [], list(ports)
    while ports:
        some, ports = ports[:400], ports[400:]
        waiting = selectors.DefaultSelector()
        for port in some:
            stream = socket.socket()
            stream.setblocking(False)
            stream.connect_ex((host, port))
            waiting.register(stream, selectors.EVENT_WRITE, port)
        until = time.monotonic() + PATIENCE
        while waiting.get_map() and time.monotonic() < until:
            for key, _event in waiting.select(0.1):
                if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    found.append(key.data)
                waiting.unregister(key.fileobj)
                key.fileobj.close()
        for key in list(waiting.get_map().values()):
            key.fileobj.close()
    return {"reached": bool(found), "open": sorted(found)}


def with_address(address, act):
    """Does something after giving the interface another address and routes everything over it."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH2s4s8s", device().encode(), socket.AF_INET, b"", socket.inet_aton(address), b"")
        try:
            fcntl.ioctl(control, 0x8916, request)
            changed = True
        except OSError:
            changed = False
    return {**act(), "changed": changed}


def beats(name, port=9000, secure=False, request=None, most=20.0):
    """Keeps one connection busy until it ends, and tells how often it was answered."""
    count, until = 0, time.monotonic() + most
    try:
        stream = secured(name, port=port) if secure else connect(resolve(name)[0], port)
        with stream:
            stream.settimeout(PATIENCE)
            while time.monotonic() < until:
                stream.sendall(as_bytes(request) if request else CANARY.encode())
                got = stream.recv(65536)
                if not got or b" 403 " in got[:20]:
                    return {"reached": False, "beats": count, "ended": True, "got": got.decode("latin-1")}
                count += 1
                if count == 1:
                    print("beating", file=sys.stderr, flush=True)
                time.sleep(0.05)
    except OSError as error:
        return {**failed(error), "beats": count, "ended": True}
    return {"reached": True, "beats": count, "ended": False}


def crowd(name, port, count):
    """Many connections at once, each of which says something and waits for the answer."""
    address, streams, answered = resolve(name)[0], [], 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 64), hard))
    for _ in range(count):
        try:
            streams.append(connect(address, port, 5))
        except OSError:
            pass
    for stream in streams:
        try:
            stream.sendall(CANARY.encode())
        except OSError:
            pass
    for stream in streams:
        stream.settimeout(5)
        try:
            answered += stream.recv(1000) == CANARY.encode()
        except OSError:
            pass
    return {"reached": answered > 0, "connected": len(streams), "answered": answered}


def flood(address, seconds):
    """Datagrams and hopeless connections as fast as they go."""
    sent, until = 0, time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        # A call that waits for room would wait for ever.
        stream.setblocking(False)
        while time.monotonic() < until:
            for _ in range(200):
                try:
                    stream.sendto(bytes(1200), (address, 9))
                    sent += 1
                except OSError:
                    pass
            hopeless = socket.socket()
            hopeless.setblocking(False)
            hopeless.connect_ex((address, 80))
            hopeless.close()
    return {"reached": False, "sent": sent}


def questions(suffix, count):
    """Many names below one, each as long as it may be; "reached" when any was answered."""
    answers = 0
    for number in range(count):
        label = (CANARY + f"-{number}-").ljust(60, "x")
        outcome = dns(f"{label}.{suffix}")
        answers += outcome["reached"]
    return {"reached": answers > 0, "answers": answers}


def each(*outcomes):
    """Several tries as one: reached when any was."""
    return {"reached": any(o["reached"] for o in outcomes), "each": list(outcomes)}


if __name__ == "__main__":
    try:
        print(json.dumps(eval(EXPRESSION)))
    except OSError as error:
        print(json.dumps(failed(error)))
