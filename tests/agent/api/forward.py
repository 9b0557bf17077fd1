"""Forwards connections from a port of its own on the loopback to a Unix socket, and prints the port.

An answer that is a stream of events ends soon: testers wait for the end of an answer."""

import socket
import socketserver
import sys
import threading


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(sys.argv[1])
            back = threading.Thread(target=copy, args=(agent, self.request), daemon=True)
            back.start()
            copy(self.request, agent)
            back.join()


def copy(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
            if b"content-type: text/event-stream" in data.lower():
                source.settimeout(0.3)
        target.shutdown(socket.SHUT_WR)
    except TimeoutError:
        # The last chunk, and the connection's end.
        target.sendall(b"0\r\n\r\n")
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        source.close()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


with Server(("127.0.0.1", 0), Connection) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
