# syntax=docker/dockerfile:1
# Tollgate's image: one binary on Debian without anything else of ours. Bases are pinned by tag; where your registry is at
# hand, pin them by digest too (docker buildx imagetools inspect), so that a rebuild is the same to the byte. For a bill of
# materials: docker buildx build --sbom=true --provenance=mode=max .

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY config config
COPY migrations migrations
COPY benches benches
COPY src src
# Paths of this stage do not get into the binary, so that it does not depend on where it was built.
ENV CARGO_INCREMENTAL=0 RUSTFLAGS="--remap-path-prefix=/build=. --remap-path-prefix=/usr/local/cargo=cargo"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin tollgate --features tls \
    && cp target/release/tollgate /tollgate

# Slim and not distroless, since the health check needs a shell that opens a connection: the binary asks nobody by itself.
FROM debian:12.12-slim
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tollgate" \
      org.opencontainers.image.description="Organizations, limits, charges and records in front of an unmodified LibreChat" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/debian:12.12-slim" \
      tollgate.sbom="an attestation of the image (docker buildx imagetools inspect --format '{{ json .SBOM }}'), from Cargo.lock"
# Whom it believes where issuers publish their keys.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A volume that is laid over it takes its owner.
RUN install -d -m 750 -o 65532 -g 65532 /var/lib/tollgate
COPY --from=build --chmod=755 /tollgate /usr/local/bin/tollgate
COPY --chmod=755 deploy/is-alive /usr/local/bin/is-alive
USER 65532:65532
WORKDIR /var/lib/tollgate
VOLUME /var/lib/tollgate
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --retries=3 --start-period=30s CMD ["/usr/local/bin/is-alive"]
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["serve"]
