# The image is the binary and nothing else: no shell, no package manager, a
# user without rights. It runs embedded as it is, with its SQLite file in a
# volume:
#
#   docker build --tag tollgate .
#   docker run --publish 127.0.0.1:8000:8000 --volume tollgate:/data tollgate
#
# The first start prints the administrator's password, which has to be changed
# at the first sign-in, because `docker logs` keeps it. So that none is printed,
# choose one, in a file that user 65532 can read:
#
#   docker run … --volume "$PWD/admin-password:/run/admin-password:ro" \
#     --env TOLLGATE_ADMIN_PASSWORD_FILE=/run/admin-password tollgate
#
# A directory of your own in place of the named volume must belong to that user,
# or the database cannot be made: chown 65532:65532 DIRECTORY.
# docker-compose.yml runs it with PostgreSQL and Redis.

FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine3.24 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOTOOLCHAIN=local

# The modules are a layer of their own, made anew only when they change.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=devel
RUN --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/tollgate ./server \
    && mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/tollgate /tollgate
# A new named volume takes over the owner of the directory it is mounted on.
COPY --from=build --chown=65532:65532 /out/data /data

USER 65532:65532
WORKDIR /data
# Loopback would be out of reach in a container. /metrics stays there until
# TOLLGATE_METRICS_LISTEN says otherwise: it is not for everybody.
ENV TOLLGATE_LISTEN=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/tollgate", "health"]
ENTRYPOINT ["/tollgate"]
