# The CPU: docker build -t recbole-hns .
FROM python:3.11-slim

# PyTorch's default wheels bring CUDA, several GB; its own index has those for the CPU
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.6,<2.14"

COPY pyproject.toml README.md LICENSE /src/
COPY recbole_hns /src/recbole_hns
COPY properties /src/properties
RUN pip install --no-cache-dir /src

# data sets are read from the working directory, and results written there, not as root
RUN useradd --uid 1000 --create-home hns && mkdir /work && chown hns /work
USER 1000
# whom --user names instead has neither a home nor a name
ENV HOME=/tmp USER=hns
WORKDIR /work
VOLUME /work

ENTRYPOINT ["recbole-hns"]
CMD ["--help"]
