"""A mail server on loopback: STARTTLS first, then a login, then letters, each of which becomes a file.

smtp.py DIR USER PASSWORD    DIR/server.pem and server.key are its certificate; DIR/port says where it listens, and
                             DIR/letters/N holds who a letter is for, one a line, an empty line, and the letter
"""
import asyncio
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

directory, user, password = pathlib.Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
letters = directory / "letters"


class Keep:
    async def handle_DATA(self, server, session, envelope):
        number = len(list(letters.iterdir()))
        head = "".join(f"{to}\n" for to in envelope.rcpt_tos) + "\n"
        new = directory / "new"
        new.write_bytes(head.encode() + envelope.content)
        new.rename(letters / str(number))
        return "250 kept"


def authenticate(server, session, envelope, mechanism, data):
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (user, password)
    return AuthResult(success=known, handled=False)


async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / "server.pem", directory / "server.key")

    def session():
        return SMTP(
            Keep(), hostname="127.0.0.1", tls_context=tls, require_starttls=True, auth_required=True, authenticator=authenticate
        )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    new = directory / "port.new"
    new.write_text(str(server.sockets[0].getsockname()[1]))
    new.rename(directory / "port")
    await server.serve_forever()


asyncio.run(main())
