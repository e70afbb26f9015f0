# syntax=docker/dockerfile:1
# One image for each of the three programs, for whoever builds with a container engine;
# `make images` and releases need none (hack/release), and hold the same:
#   docker build --target metalstack-apiserver .
# For another platform: docker buildx build --platform linux/arm64 --target … .

FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=
ARG COMMIT=
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -o /out/ -ldflags="-s -w -buildid= \
      -X metal-stack.io/infrastructure-apiserver/pkg/version.version=$VERSION \
      -X metal-stack.io/infrastructure-apiserver/pkg/version.commit=$COMMIT \
      -X k8s.io/client-go/pkg/version.gitVersion=$VERSION \
      -X k8s.io/client-go/pkg/version.gitCommit=$COMMIT" ./cmd/...
# Accounts, certificates of authorities, time zones.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go -C hack/release run ./rootfs/write /rootfs

FROM scratch AS base
ARG VERSION=
ARG COMMIT=
COPY --from=build /rootfs /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.source=https://github.com/metal-stack/metalstack-apiserver \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$COMMIT \
      org.opencontainers.image.licenses=Apache-2.0
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
WORKDIR /

FROM base AS metal-api-simulator
LABEL org.opencontainers.image.title=metal-api-simulator \
      org.opencontainers.image.description="A metal-api with simulated machines, for tests and demonstrations"
COPY --from=build /out/metal-api-simulator /metal-api-simulator
ENTRYPOINT ["/metal-api-simulator"]

FROM base AS metalstack-controller-manager
LABEL org.opencontainers.image.title=metalstack-controller-manager \
      org.opencontainers.image.description="Allocates and releases what the kinds of metalstack-apiserver ask for"
COPY --from=build /out/metalstack-controller-manager /metalstack-controller-manager
ENTRYPOINT ["/metalstack-controller-manager"]

FROM base AS metalstack-apiserver
LABEL org.opencontainers.image.title=metalstack-apiserver \
      org.opencontainers.image.description="Serves Cluster API infrastructure kinds from a metal-api"
COPY --from=build /out/metalstack-apiserver /metalstack-apiserver
ENTRYPOINT ["/metalstack-apiserver"]
