# The sandbox in a container. From the root of a checkout:
#   docker build -f docs/examples/sandbox.Dockerfile -t altcraft-sandbox .
#   docker run --rm -p 127.0.0.1:8080:8080 altcraft-sandbox
# Publish it on loopback: the admin API and the page then answer to whoever reaches the port.
FROM python:3.13-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY altcraft_async ./altcraft_async
RUN pip install --no-cache-dir ".[cli]" && rm -rf /src/*
WORKDIR /data
USER nobody
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/_sandbox/health', timeout=2)"]
# More options come behind the image's name, for example --faults mixed --nodes 2 --admin-host sandbox
ENTRYPOINT ["altcraft-async", "sandbox", "--host", "0.0.0.0", "--port", "8080", "--admin", "network"]
