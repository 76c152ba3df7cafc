"""S3 servers, recognised without an account by their response to a list of buckets.

botocore signs the request with an account; it is sent like every other probe. A boto3 client would take endpoints, proxies and profiles
from the environment and home directory of this process.
"""

from __future__ import annotations

import re

from fuseml.domain.registry import extension
from fuseml.probes import draft, tool
from fuseml.probes.targets import Answer, Target

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""The credentials of an S3 account."""
_PRODUCTS = {"AmazonS3": "aws-s3", "MinIO": "minio", "SeaweedFS": "seaweedfs", "Ceph": "ceph"}
# All other codes, such as AccessDenied, imply a valid account.
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidSecurity"}
_REGION = re.compile(r"//s3[.-]([a-z0-9-]+)\.amazonaws\.com")


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get("/")
    server = answer.headers.get("server", "")
    product = next((product for name, product in _PRODUCTS.items() if server.startswith(name)), "")
    lists = answer.status == 200 and "<ListAllMyBucketsResult" in answer.text
    refuses = answer.status == 403 and _code(answer) != "" and "x-amz-request-id" in answer.headers
    # AWS redirects requests without an account to its product page.
    if not (lists or refuses or (product == "aws-s3" and answer.status < 400)):
        return None
    variables = [] if product == "aws-s3" else ["MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
    store = draft.service(target, "s3", "s3", "object-storage", variables=variables, auth_required=not lists, keys=KEYS)
    # The header of an unknown product may be that of a proxy.
    version = draft.version(re.split("[/ ]", server)[-1]) if product else ""
    return draft.record(product or "s3", version, "S3 object storage", store)


def _check(target: Target) -> str | None:
    from botocore import auth, awsrequest, credentials

    access, secret, session = (target.credentials.get(key) for key in KEYS)
    if not (access and secret):
        raise tool.no_keys("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    request = awsrequest.AWSRequest("GET", f"{target.base}/")
    auth.S3SigV4Auth(credentials.Credentials(access, secret, session), "s3", _region(target)).add_auth(request)
    answer = target.get("/", dict(request.headers.items()))
    if answer.status == 401 or _code(answer) in _REFUSED:
        return tool.refusal("the S3 server", target, " and ".join(KEYS[:2]))
    if answer.status == 200 or _code(answer) == "AccessDenied":
        return None
    raise tool.unknown(target, answer)


def _code(answer: Answer) -> str:
    """The code of an S3 error."""
    match = re.search(r"<Error>.*?<Code>(\w+)</Code>", answer.text, re.DOTALL)
    return match[1] if match else ""


def _region(target: Target) -> str:
    configured = target.configuration.get("AWS_REGION") or target.configuration.get("AWS_DEFAULT_REGION")
    in_url = _REGION.search(target.base)
    return configured or (in_url[1] if in_url else "us-east-1")


TOOL = tool.Tool(detect=_detect, check=_check, resources=frozenset({"s3"}))
