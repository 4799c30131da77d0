# A server on the loopback interface that answers every connection with so many bytes, or (with a
# port to fetch from) a client that tells how many microseconds one such answer took.
import socket, sys, time

size, port, fetch = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "fetch"
if fetch:
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(b"GET / HTTP/1.1\r\nHost: inside\r\n\r\n")
        buffer, count, body = bytearray(1 << 20), 0, None
        while body is None or count < body + size:
            got = server.recv_into(buffer)
            if got == 0:
                sys.exit(f"only {count} bytes came")
            if body is None:
                end = buffer.find(b"\r\n\r\n", 0, got)
                body = end + 4
            count += got
    print(round((time.perf_counter() - started) * 1e6), flush=True)
    sys.exit(0)

listener = socket.create_server(("127.0.0.1", port), backlog=16)
print("listening", flush=True)
piece = bytes(1 << 20)
head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
while True:
    client, _ = listener.accept()
    with client:
        request = b""
        while b"\r\n\r\n" not in request:
            more = client.recv(65536)
            if not more:
                break
            request += more
        client.sendall(head)
        left = size
        while left:
            left -= client.send(piece[: min(left, len(piece))])
