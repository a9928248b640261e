# podtap's image for those who build with BuildKit. scripts/image makes the same
# without either.
#
#   docker build -t podtap:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 -t podtap:0.1.0 .
ARG GO_VERSION=1.26

# On the builder's own architecture: Go builds for others without emulation.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src
# The modules, which change seldom, in a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=0.1.0
# The platform that is built for; BuildKit sets it.
ARG TARGETARCH
ENV CGO_ENABLED=0 GOOS=linux GOARCH=$TARGETARCH
RUN set -e; \
    for program in podtapd=./cmd/podtapd podtap=./plugins/tap kubectl-podtap=./cmd/kubectl-podtap; do \
        go build -trimpath -buildvcs=false \
            -ldflags "-s -w -X github.com/podtap/podtap/internal/version.version=$VERSION" \
            -o "/out/${program%%=*}" "${program#*=}"; \
    done; \
    cp LICENSE /out/

# Static programs need nothing else: no shell, no certificates, no users.
FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="podtap" \
      org.opencontainers.image.description="See the packets of a Kubernetes pod" \
      org.opencontainers.image.source="https://github.com/podtap/podtap" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
ENV PATH=/
COPY --from=build /out/ /
ENTRYPOINT ["/podtapd"]
