# PostgreSQL with Pageformer, made ready by the same script as a machine of one's own.
FROM debian:trixie-slim
COPY . /opt/pageformer
WORKDIR /opt/pageformer
ENV PIP_NO_CACHE_DIR=1
RUN apt-get update && ./setup.sh && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/pageformer/.venv/bin:$PATH
VOLUME /var/lib/pageformer
EXPOSE 5432
HEALTHCHECK --interval=5s --start-period=60s CMD pageformer status
CMD ["pageformer", "up", "--foreground", "--listen", "*"]
