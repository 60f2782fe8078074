#!/bin/sh
# Prints a password for each service of docker-compose.yml:
# test -e .env || (umask 077; docker/passwords.sh > .env)
set -eu

for name in POSTGRES DURATHREAD TEMPORAL VALKEY; do
  echo "${name}_PASSWORD=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done
