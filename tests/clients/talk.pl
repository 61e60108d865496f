# Sends the commands on stdin to a server with Redis.pm, one by one and then as a pipeline; writes the replies.
# stdin: {"port", "commands": [[word, ...], ...]}; stdout: {"single": [...], "pipelined": [...]}, errors as {"error"}.
use strict;
use warnings;
use JSON::PP;
use Redis;

my $json = JSON::PP->new->utf8;
my $asked = $json->decode(do { local $/; <STDIN> });

sub connected {
    my ($site) = @_;
    return Redis->new(server => "127.0.0.1:$asked->{port}", username => $site, password => "token");
}

# Redis.pm sends and gives bytes.
sub bytes { return map { my $word = "$_"; utf8::encode($word); $word } @_ }

sub text {
    my ($reply) = @_;
    return [map { text($_) } @$reply] if ref $reply;
    utf8::decode($reply) if defined $reply;
    return $reply;
}

sub ask {
    my ($redis, @command) = @_;
    my $verb = lc shift @command;
    return $redis->$verb(bytes(@command));
}

my (@single, @pipelined);
my $redis = connected("perl-single");
for my $command (@{ $asked->{commands} }) {
    my $reply = eval { ask($redis, @$command) };
    my ($error) = $@ =~ /^\[\w+\] (.*?)(?:, at |$)/;
    push @single, $error ? { error => $error } : text($reply);
}
$redis->quit;

$redis = connected("perl-pipelined");
for my $command (@{ $asked->{commands} }) {
    my ($verb, @args) = @$command;
    my $method = lc $verb;
    $redis->$method(bytes(@args), sub {
        my ($reply, $error) = @_;
        push @pipelined, defined $error ? { error => $error } : text($reply);
    });
}
$redis->wait_all_responses;
$redis->quit;

print $json->encode({ single => \@single, pipelined => \@pipelined });
