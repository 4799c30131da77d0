# What runs inside a sandbox while its way out is measured: it does the jobs of its order, times
# each run itself, and prints the times in microseconds, one list of phases per run.
import json, os, resource, socket, ssl, sys, time

order = json.loads(sys.argv[1])
if order["resolver"]:
    with open("/etc/resolv.conf", "w") as file:
        file.write("nameserver %s\n" % order["resolver"])
context = ssl.create_default_context()
context.load_verify_locations(cadata=order["ca"])
PIECE = 1 << 20
piece = memoryview(bytearray(PIECE))


def resolve(host, port):
    return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]


def connect(address):
    stream = socket.create_connection(address, 30)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def secure(stream, job):
    return context.wrap_socket(stream, server_hostname=job["host"]) if job["tls"] else stream


def ask(stream, job):
    text = "GET /bytes/%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (job["bytes"], job["host"])
    stream.sendall(text.encode())


def first(stream):
    """Reads the beginning of an answer; returns how many bytes of its body came with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = stream.recv(65536)
        if not more:
            sys.exit("the connection ended before an answer came")
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200 "):
        sys.exit("refused: %r" % head)
    return len(body)


def rest(stream, job, got):
    while got < job["bytes"]:
        more = stream.recv_into(piece, PIECE)
        if not more:
            sys.exit("the connection ended after %d bytes" % got)
        got += more


def times(marks):
    return [round((after - before) * 1e6) for before, after in zip(marks, marks[1:])]


def one(job):
    marks = [time.perf_counter()]
    address = resolve(job["host"], job["port"])
    marks.append(time.perf_counter())
    stream = connect(address)
    marks.append(time.perf_counter())
    stream = secure(stream, job)
    marks.append(time.perf_counter())
    ask(stream, job)
    got = first(stream)
    marks.append(time.perf_counter())
    rest(stream, job, got)
    marks.append(time.perf_counter())
    stream.close()
    return times(marks)


def hold(job):
    """All connections at once, each used twice; in between somebody looks at us."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    address = resolve(job["host"], job["port"])
    streams = []
    for _ in range(job["hold"]):
        stream = secure(connect(address), job)
        ask(stream, job)
        rest(stream, job, first(stream))
        streams.append(stream)
    print("open", flush=True)
    while not os.path.exists(order["go"]):
        time.sleep(0.02)
    begun = time.perf_counter()
    for stream in streams:
        ask(stream, job)
    for stream in streams:
        rest(stream, job, first(stream))
    return times([begun, time.perf_counter()])


def work(job):
    if job["hold"]:
        return [hold(job)]
    return [one(job) for _ in range(job["runs"])]


print(json.dumps([work(job) for job in order["jobs"]]), flush=True)
