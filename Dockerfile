# The course in a container, for the CPU by default:  docker compose up lab
# For NVIDIA:  docker compose -f compose.yaml -f compose.gpu.yaml up lab
FROM python:3.12.12-slim-bookworm

# Where torch comes from: its CPU wheels are ten times smaller than the default ones.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 student
WORKDIR /course
COPY pyproject.toml constraints.txt README.md ./
COPY stn_utils stn_utils
RUN pip install --no-cache-dir --disable-pip-version-check --extra-index-url "${TORCH_INDEX}" -c constraints.txt -e ".[lab]"
COPY notebooks notebooks
COPY assets assets
# The cache must be there: a volume on a folder that the image lacks belongs to root.
RUN mkdir -p runs /home/student/.cache && chown -R student:student /course /home/student/.cache
USER student
ENV XDG_CACHE_HOME=/home/student/.cache
EXPOSE 8888
ENTRYPOINT ["stn"]
CMD ["--help"]
