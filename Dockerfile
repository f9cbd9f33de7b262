# weir in a container: in the foreground, logs to standard output and error, as process 1.
#
#     docker build -t weir .
#     docker run -p 80:80 -v ./weir.conf:/etc/weir/weir.conf:ro weir

FROM rust:1-bookworm AS build
WORKDIR /weir
COPY . .
RUN make deb CARGO_TARGET_DIR=/target DEB=/package

FROM debian:bookworm-slim
COPY --from=build /package/ /package/
RUN apt-get update \
    && apt-get install -y --no-install-recommends /package/weir_*.deb ca-certificates \
    && rm -rf /package /var/lib/apt/lists/* \
    # The default region, which is on the container's tmpfs.
    && sed -i '/^region /d' /etc/weir/weir.conf \
    && ln -sf /dev/stdout /var/log/weir/access.log \
    && ln -sf /dev/stderr /var/log/weir/error.log
EXPOSE 80
# Requests in flight are finished; `docker stop -t` says for how long.
STOPSIGNAL SIGQUIT
# 1 is a warning, such as a source that does not answer while its last servers do.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s CMD weirctl check || [ $? -eq 1 ]
# Root opens sockets and logs; workers and syncer are the user `weir`.
CMD ["weir", "-g", "daemon off;"]
