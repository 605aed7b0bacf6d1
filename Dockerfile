# Everything the pipeline needs, and nothing that the lock does not name.
#   docker build -t recipe-runner:local --build-arg GIT_COMMIT=$(git rev-parse HEAD) .
#   docker run --rm recipe-runner:local --help
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

RUN useradd --create-home --uid 1000 runner

WORKDIR /app
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps --only-binary :all: -r requirements.lock

# The project itself runs from its folder: installing it would fetch a build backend that no hash
# pins. dbt, Feast and MLflow find `runner` through PYTHONPATH.
ENV PYTHONPATH=/app
RUN printf '#!/bin/sh\nexec python -m runner "$@"\n' > /usr/local/bin/runner \
    && chmod 755 /usr/local/bin/runner

COPY . .
# The user of the image cannot write bytecode: without it, every start of an API would compile again.
RUN python -m compileall -q contract runner serving
# What the tools write into: dbt, MLflow, exposures, and whatever a user of `runner` makes.
RUN mkdir -p mlruns target logs data dbt_project/models/_generated \
    && chown -R runner:runner mlruns target logs data dbt_project/models/_generated

# What a training records as its commit: git and .git stay out of the image. Last, for it is another
# one each time.
ARG GIT_COMMIT
ENV GIT_COMMIT=$GIT_COMMIT

USER runner
EXPOSE 8000
ENTRYPOINT ["runner"]
CMD ["--help"]
