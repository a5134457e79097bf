"""poplib_fetch.py HOST PORT COUNT CA: fetch messages 1 to COUNT to stdout, with what Python brings along."""
import poplib
import ssl
import sys

host, port, count, ca = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if ca:
    client = poplib.POP3_SSL(host, port, context=ssl.create_default_context(cafile=ca))
else:
    client = poplib.POP3(host, port)
client.user("user")
client.pass_("secret")
for n in range(1, count + 1):
    _, lines, _ = client.retr(n)
    for line in lines:
        sys.stdout.buffer.write(line + b"\r\n")
client.quit()
sys.stdout.buffer.flush()
