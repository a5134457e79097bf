"""Twisted's POP3 server protocol: server.py DIR PORT TLSPORT USERS

Everything that is said comes from twisted.mail.pop3.POP3. Ours are the mailbox (its Maildir opens messages as text,
and RETR never ends), STLS, which it lacks, and the check of an APOP digest, which compares str with bytes.
"""
import hashlib, io, os, sys
from twisted.cred import checkers, credentials, error, portal
from twisted.internet import protocol, reactor, ssl
from twisted.mail import pop3
from twisted.python import log
from zope.interface import implementer

directory, port, tls_port, users = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
passwords = {b"u%d" % i: b"secret%d" % i for i in range(1, users + 1)}
log.startLogging(open(os.path.join(directory, "server.log"), "w"), setStdout=False)


@implementer(pop3.IMailbox)
class Mailbox:
    """The files of a Maildir's cur, octet by octet."""

    loginDelay = 5
    messageExpiration = 60

    def __init__(self, path):
        names = sorted(os.listdir(path)) if os.path.isdir(path) else []
        self.files = [os.path.join(path, name) for name in names]
        self.deleted = set()

    def file(self, index):
        if not 0 <= index < len(self.files):
            raise ValueError(b"no such message")  # octets: Twisted joins them to its reply
        return self.files[index]

    def size(self, index):
        return 0 if index in self.deleted else os.path.getsize(self.file(index))

    def listMessages(self, index=None):
        if index is None:
            return [self.size(i) for i in range(len(self.files))]
        return self.size(index)

    def getMessage(self, index):
        with open(self.file(index), "rb") as f:
            return io.BytesIO(f.read())

    def getUidl(self, index):
        return hashlib.md5(os.path.basename(self.file(index)).encode()).hexdigest().encode()

    def deleteMessage(self, index):
        self.file(index)
        self.deleted.add(index)

    def undeleteMessages(self):
        self.deleted.clear()

    def sync(self):
        for index in self.deleted:
            os.remove(self.files[index])


@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, user, mind, *interfaces):
        path = os.path.join(directory, "mail", user.decode(), "Maildir", "cur")
        return pop3.IMailbox, Mailbox(path), lambda: None


@implementer(checkers.ICredentialsChecker)
class Checker:
    credentialInterfaces = (credentials.IUsernamePassword, credentials.IUsernameHashedPassword)

    def requestAvatarId(self, c):
        password = passwords.get(c.username)
        if isinstance(c, pop3.APOPCredentials):
            c.digest = c.digest.decode("latin1")
        if password is not None and c.checkPassword(password):
            return c.username
        raise error.UnauthorizedLogin()


context = ssl.DefaultOpenSSLContextFactory(os.path.join(directory, "key.pem"), os.path.join(directory, "cert.pem"))


class POP3(pop3.POP3):
    AUTH_CMDS = pop3.POP3.AUTH_CMDS + [b"STLS"]
    secure = False
    starting = False

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)  # or every message takes 40 ms
        pop3.POP3.connectionMade(self)

    def listCapabilities(self):
        capabilities = pop3.POP3.listCapabilities(self)
        return capabilities if self.secure or self.mbox else capabilities + [b"STLS"]

    def do_STLS(self):
        if self.secure or self.mbox:
            return self.failResponse(b"no")
        self.secure = self.starting = True
        self.successResponse(b"Begin TLS")
        self.transport.startTLS(context)

    def dataReceived(self, data):
        pop3.POP3.dataReceived(self, data)
        self.starting = False

    def lineReceived(self, line):
        if not self.starting:  # else it came with STLS, in the clear
            pop3.POP3.lineReceived(self, line)


class TLSPOP3(POP3):
    secure = True


@implementer(pop3.IServerFactory)
class Factory(protocol.ServerFactory):
    noisy = False
    challengers = {b"CRAM-MD5": lambda: credentials.CramMD5Credentials(b"localhost")}

    def __init__(self, sort):
        self.sort = sort

    def cap_IMPLEMENTATION(self):
        return b"Twisted"

    def cap_EXPIRE(self):
        return 60

    def cap_LOGIN_DELAY(self):
        return 1  # 0 makes CAPA fail

    def perUserLoginDelay(self):
        return False

    def perUserExpiration(self):
        return True

    def buildProtocol(self, address):
        p = self.sort()
        p.factory = self
        p.portal = portal.Portal(Realm(), [Checker()])
        return p


reactor.listenTCP(port, Factory(POP3), interface="127.0.0.1", backlog=1000)
reactor.listenSSL(tls_port, Factory(TLSPOP3), context, interface="127.0.0.1", backlog=1000)
reactor.run()
