# The program `margay`, with the libraries that it links to and nothing else.
#
#     docker build -t REGISTRY/margay:0.1.0 .

FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN .ci/deps build && cargo build --release --locked --package margay-control --bin margay

# glibc and libgcc_s are there, a shell is not.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /usr/lib/x86_64-linux-gnu/libelf.so.1 /usr/lib/x86_64-linux-gnu/
COPY --from=build /usr/lib/x86_64-linux-gnu/libz.so.1 /usr/lib/x86_64-linux-gnu/
COPY --from=build /src/target/release/margay /margay
ENTRYPOINT ["/margay"]
CMD ["run"]
