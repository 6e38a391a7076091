"""What `scripts/contract.sh` does not send."""

import schemathesis


@schemathesis.hook
def filter_case(context, case) -> bool:
    """A header value with a control character is no HTTP (RFC 9110, 5.5): the parser turns the whole message
    away with a bare 400, before there is a request that the contract could speak of."""
    values = (case.headers or {}).values()
    return not any(ord(c) < 32 or ord(c) == 127 for value in values for c in str(value))
