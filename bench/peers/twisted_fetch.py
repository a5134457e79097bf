"""twisted_fetch.py HOST PORT COUNT: fetch messages 1 to COUNT to stdout, with Twisted."""
import sys

from twisted.internet import defer, endpoints, task
from twisted.mail.pop3client import POP3Client

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


@defer.inlineCallbacks
def main(reactor):
    endpoint = endpoints.TCP4ClientEndpoint(reactor, host, port)
    client = POP3Client()
    client.allowInsecureLogin = True
    greeted = defer.Deferred()
    client.serverGreeting = greeted.callback
    yield endpoints.connectProtocol(endpoint, client)
    yield greeted
    yield client.login(b"user", b"secret")
    write = sys.stdout.buffer.write
    for n in range(count):
        yield client.retrieve(n, lambda line: write(line + b"\r\n"))
    yield client.quit()
    sys.stdout.buffer.flush()


task.react(main)
