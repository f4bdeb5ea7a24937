# Two images of one project: everything from requirements.lock by hash, the two hot loops compiled, and no compiler,
# secret or root in what runs.
#
#     docker build --target sender -t penpot-telemetry-sender:0.1.0 .      # beside a Penpot: docs/beside-a-penpot.md
#     docker build -t penpot-telemetry-receiver:0.1.0 .                    # the last one: docs/running.md

FROM python:3.11-slim AS build
# No version: Debian removes one from its mirrors when the next is there.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
# uv is in the lock too: pip takes it from there, and it takes all the rest. pip alone cannot hold a part of a lock to
# its hashes.
RUN awk '/^[a-z]/ {wanted = /^uv==/} wanted' requirements.lock > uv.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r uv.lock
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml ./

FROM build AS wheel
COPY setup.py README.md LICENSE ./
COPY penpot_telemetry penpot_telemetry
COPY receiver receiver
RUN /opt/build/bin/uv build --wheel --python /opt/build/bin/python --require-hashes \
      --build-constraints requirements.lock --out-dir dist

FROM build AS sender-files
RUN python -m venv --without-pip /opt/sender \
 && /opt/build/bin/uv pip install --python /opt/sender/bin/python --compile-bytecode \
      --require-hashes --constraints requirements.lock --requirements pyproject.toml --extra signing
COPY --from=wheel /src/dist dist
# Without the last line a failing compiler would go unnoticed: encoding would take some ten times longer.
RUN /opt/build/bin/uv pip install --python /opt/sender/bin/python --compile-bytecode --no-deps dist/*.whl \
 && /opt/sender/bin/python -P -c 'from penpot_telemetry.wire import kernel; assert kernel.__file__.endswith(".so")'

FROM build AS receiver-files
RUN python -m venv --without-pip /opt/receiver \
 && /opt/build/bin/uv pip install --python /opt/receiver/bin/python --compile-bytecode \
      --require-hashes --constraints requirements.lock --requirements pyproject.toml --extra receiver
COPY --from=wheel /src/dist dist
RUN /opt/build/bin/uv pip install --python /opt/receiver/bin/python --compile-bytecode --no-deps dist/*.whl \
 && /opt/receiver/bin/python -P -c 'from penpot_telemetry.wire import kernel; assert kernel.__file__.endswith(".so")'

FROM python:3.11-slim AS sender
RUN useradd --system --uid 10002 --user-group --no-create-home --shell /usr/sbin/nologin sender
COPY --from=sender-files /opt/sender /opt/sender
USER 10002:10002
WORKDIR /tmp
ENV PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
# The daemon writes the heartbeat after every pass. `docker run … run` (one pass) has none, and needs none.
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s CMD ["/opt/sender/bin/penpot-telemetry", "health", \
  "--heartbeat", "/tmp/heartbeat"]
ENTRYPOINT ["/opt/sender/bin/penpot-telemetry"]
CMD ["run", "--every", "3h", "--heartbeat", "/tmp/heartbeat"]

FROM python:3.11-slim AS receiver
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin receiver \
 && install -d -o receiver -g receiver -m 0700 /data
COPY --from=receiver-files /opt/receiver /opt/receiver
USER 10001:10001
WORKDIR /data
VOLUME /data
# Beyond loopback the receiver does not start without RECEIVER_READ_TOKEN_FILE (or RECEIVER_READ_TOKEN).
ENV RECEIVER_WAREHOUSE=/data/telemetry.duckdb RECEIVER_HOST=0.0.0.0 RECEIVER_PORT=6070 PYTHONUNBUFFERED=1
EXPOSE 6070
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["/opt/receiver/bin/python", "-c", \
  "from http.client import HTTPConnection as C; c = C('127.0.0.1', 6070, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/receiver/bin/penpot-telemetry-receiver"]
