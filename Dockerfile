# syntax=docker/dockerfile:1
# One image for each of the three programs:
#   docker build --target metalstack-apiserver .
# For another platform: docker buildx build --platform linux/arm64 --target … .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
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
    go build -trimpath -o /out/ -ldflags="-s -w \
      -X metal-stack.io/infrastructure-apiserver/pkg/version.version=$VERSION \
      -X metal-stack.io/infrastructure-apiserver/pkg/version.commit=$COMMIT \
      -X k8s.io/client-go/pkg/version.gitVersion=$VERSION -X k8s.io/client-go/pkg/version.gitCommit=$COMMIT" ./cmd/...

FROM gcr.io/distroless/static:nonroot AS base
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
WORKDIR /

FROM base AS metal-api-simulator
COPY --from=build /out/metal-api-simulator /metal-api-simulator
ENTRYPOINT ["/metal-api-simulator"]

FROM base AS metalstack-controller-manager
COPY --from=build /out/metalstack-controller-manager /metalstack-controller-manager
ENTRYPOINT ["/metalstack-controller-manager"]

FROM base AS metalstack-apiserver
COPY --from=build /out/metalstack-apiserver /metalstack-apiserver
ENTRYPOINT ["/metalstack-apiserver"]
