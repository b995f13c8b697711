"""Makes the users of the tests at an emulator's IAM and prints their keys, each as KEY:SECRET, after the endpoint.

users.py ENDPOINT KEY:SECRET    the credential is one that may make users
"""

import json
import sys

import boto3

endpoint, credential = sys.argv[1:]
key, secret = credential.split(":")
iam = boto3.client(
    "iam",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id=key,
    aws_secret_access_key=secret,
)
# Below any prefix, and nowhere else.
FOLDERS = ["manifests", "inventories", "segments", "attempts", "canary"]
RESOURCES = {
    "owner": "*",
    "writer": [f"arn:aws:s3:::*/{folder}/*" for folder in FOLDERS],
}
RIGHTS = {
    "owner": ["*"],
    "writer": ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectRetention"],
    "reader": [],
}
print(f"ENDPOINT={endpoint}")
for user, actions in RIGHTS.items():
    iam.create_user(UserName=user)
    if actions:
        statement = {"Effect": "Allow", "Action": actions, "Resource": RESOURCES[user]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=policy)
    made = iam.create_access_key(UserName=user)["AccessKey"]
    print(f"{user.upper()}={made['AccessKeyId']}:{made['SecretAccessKey']}")
