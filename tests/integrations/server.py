"""A web server on the loopback interface for the tests of credential helpers.

    server.py DIRECTORY AUTHORIZATION [CERTIFICATE KEY]

Serves the files in DIRECTORY, with index.json for a directory, to requests that carry this Authorization header; others are
refused with 401. Prints its port, and writes every request and its header to DIRECTORY/requests.
"""

import http.server
import os
import ssl
import sys

directory, authorization = sys.argv[1:3]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        given = self.headers.get("authorization", "-")
        with open(os.path.join(directory, "requests"), "a") as log:
            log.write(f"{self.command} {self.path} {given}\n")
        path = os.path.join(directory, self.path.partition("?")[0].strip("/"))
        path = os.path.join(path, "index.json") if os.path.isdir(path) else path
        if given != authorization:
            self.reply(401, b"{}")
        elif os.path.isfile(path):
            self.reply(200, open(path, "rb").read())
        else:
            self.reply(404, b"{}")

    do_GET = do_HEAD = do_DELETE = do_PUT = do_POST = answer

    def reply(self, status, body):
        self.send_response(status)
        if status == 401:
            self.send_header("www-authenticate", 'Basic realm="test"')
        plain = self.path.split("/")[-1] in ("HEAD", "refs") or "/objects/" in self.path
        self.send_header("content-type", "text/plain" if plain else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
