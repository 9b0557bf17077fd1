"""Forwards connections from a port of its own on the loopback to a Unix socket, and prints the port."""

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
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


with Server(("127.0.0.1", 0), Connection) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
